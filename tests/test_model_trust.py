"""An index names only bundled and published weights by itself, and no model brings code along."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from fakes import draw_squares

import retrieval_grounding as rg

WEIGHTS = Path(rg.__file__).parent / "models" / "weights"
QUIET = rg.BuildOptions(progress=False, workers=1)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An index over one picture, built with the bundled models."""
    folder = tmp_path_factory.mktemp("trust")
    (folder / "photos").mkdir()
    draw_squares(folder / "photos" / "a.png", {"red": (5, 5, 25, 25)})
    return rg.build(folder / "photos", folder / "index", options=QUIET).directory


@pytest.fixture
def index(built, tmp_path):
    """A copy of the index, as it may come from a stranger."""
    return Path(shutil.copytree(built, tmp_path / "index"))


def name_in_catalog(index, key, name):
    connection = sqlite3.connect(index / "catalog.sqlite")
    with connection:
        connection.execute("UPDATE settings SET value = ? WHERE key = ?", (json.dumps(name), key))
    connection.close()


def hostile_folder(folder, marker, change):
    """Copy the bundled encoder and let its configuration ask for code that leaves a mark."""
    shutil.copytree(WEIGHTS / "nano-clip", folder)
    code = f"open({str(marker)!r}, 'w').close()\nclass Tokenizer: pass\n"
    (folder / "tokens.py").write_text(code)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": ["tokens.Tokenizer", None]}
    tokenizer["tokenizer_class"] = "Tokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    config = json.loads((folder / "open_clip_config.json").read_text())
    change(config["model_cfg"]["text_cfg"])
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def ask_for_code(text_config):
    text_config["tokenizer_kwargs"] = {"trust_remote_code": True}


def ask_deep_inside(text_config):
    text_config["tokenizer_kwargs"] = {"nested": [{"more": {"trust_remote_code": 1}}]}


@pytest.mark.parametrize("change", [ask_for_code, ask_deep_inside, lambda _: None])
def test_code_of_a_model_never_runs(index, tmp_path, change):
    marker = tmp_path / "it ran"
    folder = hostile_folder(tmp_path / "hostile", marker, change)
    name_in_catalog(index, "clip", str(folder))
    with pytest.raises(rg.ModelError, match="pass --clip"):
        rg.Index.open(index).query("red")
    with pytest.raises(rg.ModelError, match="brings Python code"):
        rg.Index.open(index, encoder=str(folder)).query("red")
    with pytest.raises(rg.ModelError, match="brings Python code"):
        rg.load_encoder(str(folder))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["{tmp}/weights.pt", "hf-hub:someone/clip", "http://x/y", "nano2"])
def test_an_index_cannot_name_weights_of_its_own(index, tmp_path, name):
    name_in_catalog(index, "clip", name.format(tmp=tmp_path))
    with pytest.raises(rg.ModelError, match="pass --clip"):
        rg.Index.open(index).query("red")


def test_consent_is_given_once_and_for_one_index(index, built, tmp_path):
    folder = shutil.copytree(WEIGHTS / "nano-clip", tmp_path / "mine")
    for directory in (index, tmp_path / "other"):
        if not directory.exists():
            shutil.copytree(built, directory)
        name_in_catalog(directory, "clip", str(folder))
    with pytest.raises(rg.ModelError, match="pass --clip"):
        rg.Index.open(index).query("red")
    assert rg.Index.open(index, encoder=str(folder)).query("red")
    assert rg.Index.open(index).query("red")
    with pytest.raises(rg.ModelError, match="pass --clip"):
        rg.Index.open(tmp_path / "other").query("red")


def test_a_detector_of_the_index_needs_consent_too(index, tmp_path):
    weights = shutil.copy(WEIGHTS / "nano-detector.pt", tmp_path / "mine.pt")
    name_in_catalog(index, "detector", str(weights))
    (tmp_path / "photos").mkdir()
    draw_squares(tmp_path / "photos" / "b.png", {"blue": (5, 5, 25, 25)})
    with pytest.raises(rg.ModelError, match="pass --detector"):
        rg.build(tmp_path / "photos", index, options=QUIET)


def test_weights_that_the_user_built_with_are_known(tmp_path, monkeypatch):
    folder = shutil.copytree(WEIGHTS / "nano-clip", tmp_path / "mine")
    (tmp_path / "photos").mkdir()
    draw_squares(tmp_path / "photos" / "a.png", {"red": (5, 5, 25, 25)})
    monkeypatch.chdir(tmp_path)
    rg.build("photos", tmp_path / "index", clip="mine", options=QUIET)
    monkeypatch.chdir(folder)
    assert rg.Index.open(tmp_path / "index").query("red")
