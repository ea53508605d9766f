"""Verifying covers the matcher, the calibration and every other file of an index.

Covers the point on `verify` and damaged matchers.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import ColorEncoder, SquareDetector, draw_squares
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.matching import install
from retrieval_grounding.matching.config import MatcherConfig
from retrieval_grounding.matching.install import install_files
from retrieval_grounding.matching.matcher import CosineMatcher
from retrieval_grounding.matching.networks import make_model
from retrieval_grounding.matching.trained import TrainedMatcher

QUIET = rg.BuildOptions(progress=False)
FILES = ("matcher-curve.csv", "matcher-curve.png", "matcher.safetensors")


def new_matcher(encoder: rg.Fingerprint = ColorEncoder.fingerprint) -> TrainedMatcher:
    """A matcher of ColorEncoder's embeddings that ranks by cosine."""
    torch.manual_seed(0)
    config = MatcherConfig("residual", ColorEncoder.dimension, 2, width=8)
    return TrainedMatcher(make_model(config).eval(), config, ["left", "right"], encoder)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    (folder / "photos").mkdir()
    draw_squares(folder / "photos" / "a.png", {"red": (5, 5, 25, 25)})
    draw_squares(folder / "photos" / "b.png", {"green": (30, 10, 60, 40)})
    models = {"detector": SquareDetector(), "clip": ColorEncoder()}
    rg.build(folder / "photos", folder / "index", options=QUIET, **models)
    contents = (b"epoch,loss\n", b"\x89PNG not really", new_matcher().as_bytes())
    install_files(folder / "index", dict(zip(FILES, contents, strict=True)))
    return folder / "index"


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "index"))


def opened(folder: Path) -> rg.Index:
    return rg.Index.open(folder, encoder=ColorEncoder())


def faults(folder: Path) -> list[tuple[str, str]]:
    return [(fault.where, fault.kind) for fault in opened(folder).verify().faults]


def set_setting(folder: Path, key: str, value: object) -> None:
    connection = sqlite3.connect(folder / "catalog.sqlite")
    with connection:
        connection.execute(
            "INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, json.dumps(value))
        )
    connection.close()


def test_a_sound_index_with_a_matcher_has_no_faults_and_no_notes(folder):
    report = opened(folder).verify()
    assert (report.faults, report.notes) == ([], [])
    assert isinstance(opened(folder).matcher, TrainedMatcher)


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_of_the_matcher_is_found(folder, name):
    path = folder / name
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for byte in {0, len(content) - 1, *random.integers(0, len(content), 30).tolist()}:
        damaged = bytearray(content)
        damaged[byte] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        assert faults(folder) == [(name, "damaged")], byte


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "text", "folder", "pipe"])
def test_a_damaged_matcher_is_replaced_by_the_next_best_with_a_warning(folder, damage, caplog):
    path = folder / "matcher.safetensors"
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    else:
        content[-3] ^= 1
        path.write_bytes({"bit": content, "cut": content[:99], "empty": b""}.get(damage, b"text"))
    with caplog.at_level(logging.WARNING, "retrieval_grounding"):
        index = opened(folder)
        [hit] = index.query("red", top=1)
    assert hit.label == "red"
    assert isinstance(index.matcher, CosineMatcher)
    [message] = caplog.messages
    assert "matcher.safetensors cannot be used" in message and "ranked by cosine" in message
    assert faults(folder) == [("matcher.safetensors", "damaged")]


def test_a_repair_moves_the_matcher_aside_and_needs_no_models(folder):
    (folder / "matcher.safetensors").write_bytes(b"damaged")
    report = rg.Index.open(folder).verify(repair=True, options=QUIET)
    assert [fault.where for fault in report.repaired] == ["matcher.safetensors"]
    assert (report.faults, report.embedded, report.lost) == ([], 0, [])
    assert (folder / "matcher.safetensors.damaged").read_bytes() == b"damaged"
    assert report.notes == [f"{name}.damaged: moved aside by a repair" for name in FILES]
    assert isinstance(opened(folder).matcher, CosineMatcher)
    assert opened(folder).query("red", top=1)[0].label == "red"


def test_a_damaged_matcher_over_nano_falls_back_to_the_bundled_one(tmp_path, photos, monkeypatch):
    index = rg.build(photos, tmp_path / "index", options=QUIET)
    (tmp_path / "index" / "matcher.safetensors").write_bytes(b"damaged")
    bundled = index.query("a red square", top=1)
    done = CliRunner().invoke(app, ["query", str(tmp_path / "index"), "a red square", "-k", "1"])
    assert done.exit_code == 0
    [warning] = done.stderr.splitlines()
    assert warning.startswith("warning: ") and "ranked by the bundled matcher" in warning
    assert f"{bundled[0].score:.3f}" in done.stdout
    done = CliRunner().invoke(app, ["info", str(tmp_path / "index")])
    assert "bundled (residual)" in done.stdout


def test_a_matcher_from_elsewhere_is_used_and_noted(folder, tmp_path):
    set_setting(folder, "matcher", None)
    report = opened(folder).verify()
    assert report.faults == []
    assert "matcher.safetensors: not trained here by this release, so it has no checksum" in (
        report.notes
    )
    assert isinstance(opened(folder).matcher, TrainedMatcher)


def test_a_matcher_of_a_different_encoder_is_a_fault(folder):
    other = rg.Fingerprint("other", "weights-2", "none")
    install_files(folder, {"matcher.safetensors": new_matcher(other).as_bytes()})
    assert faults(folder) == [("matcher.safetensors", "damaged")]


@pytest.mark.parametrize(
    "damage",
    [
        {"calibration": {"slope": "2", "intercept": 0}},
        {"calibration": {"slope": float("nan"), "intercept": 0}},
        {"calibration": {"slope": -1, "intercept": 0}},
        {"calibration": [1, 2]},
        {"config": {"kind": "residual", "dimension": 10**9, "words": 2, "width": 8}},
        {"config": {"kind": "residual", "dimension": 65536, "words": 65536, "width": 65536}},
        {"config": {"kind": "other", "dimension": 4, "words": 2, "width": 8}},
        {"config": {"kind": "residual", "dimension": 4.0, "words": 2, "width": 8}},
        {"vocabulary": "lr"},
        {"encoder": "text"},
        {"images": "text"},
        {"format": "2"},
    ],
)
def test_text_where_numbers_belong_is_damage(tmp_path, damage):
    from safetensors.torch import load, save

    from retrieval_grounding.matching.matcher_header import DamagedMatcherError

    data = new_matcher().as_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])["__metadata__"]
    header = {"matcher": json.dumps(json.loads(header["matcher"]) | damage)}
    path = tmp_path / "m.safetensors"
    path.write_bytes(save(load(data), header))
    with pytest.raises(DamagedMatcherError, match="is not a matcher of this release"):
        TrainedMatcher.load(path, "cpu")


def test_weights_that_are_not_finite_are_damage(tmp_path):
    matcher = new_matcher()
    with torch.no_grad():
        matcher.model.bias.fill_(torch.nan)
    matcher.save(tmp_path / "m.safetensors")
    with pytest.raises(rg.ModelError, match="weights are not finite"):
        TrainedMatcher.load(tmp_path / "m.safetensors", "cpu")


@pytest.mark.parametrize("moment", ["before the file", "after the file"])
def test_a_crash_while_installing_leaves_a_usable_matcher(folder, monkeypatch, moment):
    original = install.atomic_write_bytes

    def crash(path, data):
        if moment == "after the file":
            original(path, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "atomic_write_bytes", crash)
    matcher = new_matcher()
    matcher.trained_on = "something else"
    with pytest.raises(KeyboardInterrupt):
        install_files(folder, {"matcher.safetensors": matcher.as_bytes()})
    expected = "something else" if moment == "after the file" else ""
    assert opened(folder).matcher.trained_on == expected
    assert faults(folder) == []


@pytest.mark.parametrize(
    "value",
    [{"slope": "2", "intercept": 0}, {"slope": None, "intercept": 0}, {"slope": 1}, [1, 2], 7,
     {"slope": 0, "intercept": 0}, {"slope": 2.0, "intercept": 0, "more": 1}],
)  # fmt: skip
def test_a_damaged_calibration_is_found_and_removed(folder, value):
    set_setting(folder, "cosine_calibration", value)
    assert faults(folder) == [("catalog.sqlite", "calibration")]
    report = rg.Index.open(folder).verify(repair=True, options=QUIET)
    assert (report.faults, report.embedded) == ([], 0)
    assert opened(folder).query("red", top=1)[0].label == "red"


@pytest.mark.parametrize(
    "value",
    [
        7,
        {"kind": "flat", "shards": "x"},
        {"kind": "flat", "file": "/etc/passwd"},
        {"wanted": "annoy"},
    ],
)
def test_damaged_settings_of_the_vector_index_are_found_and_rebuilt(folder, value):
    set_setting(folder, "vectors", value)
    assert faults(folder) == [("catalog.sqlite", "vectors")]
    report = rg.Index.open(folder).verify(repair=True, options=QUIET)
    assert (report.faults, report.embedded) == ([], 0)
    assert opened(folder).query("red", top=1)[0].label == "red"


def test_damaged_checksums_of_the_matcher_are_found(folder):
    set_setting(folder, "matcher", {"matcher.safetensors": 7})
    assert faults(folder) == [("catalog.sqlite", "matcher")]
    report = rg.Index.open(folder).verify(repair=True, options=QUIET)
    assert report.faults == []
    assert (folder / "matcher.safetensors.damaged").exists()


def test_other_files_in_the_folder_are_noted_and_kept(folder):
    (folder / "notes.txt").write_text("mine")
    (folder / "shards" / "mine.txt").write_text("mine")
    (folder / ".rg-catalog.sqlite.7.partial").write_text("")
    (folder / "matcher.training").write_text("")
    (folder / "matcher-curve.png").unlink()
    report = opened(folder).verify()
    assert report.faults == []
    assert report.notes == [
        "matcher-curve.png: it was trained here, and is gone",
        "matcher.training: an unfinished training, which resumes if it is repeated",
        ".rg-catalog.sqlite.7.partial: left over from a killed writer; the next one deletes it",
        "notes.txt: not a part of the index",
        "shards/mine.txt: not a part of the index",
    ]
    done = CliRunner().invoke(app, ["verify", str(folder)])
    assert done.exit_code == 0
    assert "note: notes.txt: not a part of the index" in done.stdout
    done = CliRunner().invoke(app, ["verify", str(folder), "--json"])
    assert json.loads(done.stdout)["notes"] == report.notes
    assert (folder / "notes.txt").exists()
