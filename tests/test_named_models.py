"""Models that are named are those that are used: other ones are refused, moved ones are known."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import ColorEncoder, SquareDetector, draw_squares
from PIL import Image

import retrieval_grounding as rg
from retrieval_grounding.models.device import resolve_device

WEIGHTS = Path(rg.__file__).parent / "models" / "weights"
QUIET = rg.BuildOptions(progress=False, workers=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("named") / "photos"
    folder.mkdir()
    draw_squares(folder / "a.png", {"red": (5, 5, 25, 25)})
    return folder


@pytest.fixture(scope="module")
def built(photos):
    return rg.build(photos, photos.parent / "index", options=QUIET).directory


@pytest.fixture
def index(built, tmp_path):
    return Path(shutil.copytree(built, tmp_path / "index"))


def setting(index, key):
    with sqlite3.connect(index / "catalog.sqlite") as connection:
        [(value,)] = connection.execute("SELECT value FROM settings WHERE key = ?", (key,))
    return json.loads(value)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"clip": "no-such-model"}, "open_clip has no model"),
        ({"detector": "no-such.pt"}, "there is no file"),
        ({"preset": "no-such"}, "there is no preset"),
        ({"clip": ColorEncoder()}, "was built with the encoder"),
        ({"detector": SquareDetector()}, "was built with the detector"),
        ({"settings": rg.DetectorSettings(confidence=0.5)}, "was built with"),
    ],
)
def test_other_models_are_refused_though_nothing_is_new(photos, index, models, message):
    for preview in (False, True):
        with pytest.raises(rg.ModelError, match=message):
            if preview:
                rg.preview_build(photos, index, options=QUIET, **models)
            else:
                rg.build(photos, index, options=QUIET, **models)


def test_a_preview_of_a_new_index_knows_which_models_there_are(photos, tmp_path):
    with pytest.raises(rg.ModelError, match="open_clip has no model"):
        rg.preview_build(photos, tmp_path / "new", clip="no-such-model", options=QUIET)


def test_models_that_were_renamed_are_the_same(photos, index, tmp_path):
    detector = shutil.copy(WEIGHTS / "nano-detector.pt", tmp_path / "renamed.pt")  # a Path
    clip = str(shutil.copytree(WEIGHTS / "nano-clip", tmp_path / "moved"))
    more = tmp_path / "more"
    more.mkdir()
    draw_squares(more / "b.png", {"blue": (5, 5, 25, 25)})
    grown = rg.build([photos, more], index, detector=detector, clip=clip, options=QUIET)
    assert len(grown) == 2
    assert grown.verify().faults == []
    assert setting(index, "detector") == "nano"
    assert rg.Index.open(index).query("a blue square")


def test_weights_that_moved_are_recorded_at_their_new_place(index, tmp_path):
    clip = shutil.copytree(WEIGHTS / "nano-clip", tmp_path / "moved")
    run = [sys.executable, "-m", "retrieval_grounding", "relocate", str(index), "--json"]
    done = subprocess.run([*run, "--clip", str(clip)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["clip"] == str(clip)
    assert rg.Index.open(index).query("red")
    other = tmp_path / "other.pt"
    other.write_bytes(b"no weights")
    done = subprocess.run(
        [*run, "--detector", str(other)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "is not a YOLO checkpoint" in done.stderr
    assert setting(index, "detector") == "nano"


def test_relative_names_of_weights_are_recorded_as_absolute_paths(photos, tmp_path, monkeypatch):
    import open_clip
    import torch

    name = "ViT-B-32"
    monkeypatch.chdir(tmp_path)
    model = open_clip.create_model("RN50")
    torch.save(model.state_dict(), "weights.pt")
    del model, name
    index = rg.build(photos, tmp_path / "index", clip="RN50:weights.pt", options=QUIET)
    assert setting(index.directory, "clip") == f"RN50:{tmp_path / 'weights.pt'}"
    monkeypatch.chdir(photos)
    assert rg.Index.open(index.directory).query("red")


def test_the_preset_is_recorded_only_where_its_models_were_used(photos, built, tmp_path):
    assert setting(built, "preset") == "nano"
    other = rg.build(photos, tmp_path / "index", clip=ColorEncoder(), options=QUIET)
    assert setting(other.directory, "preset") is None


@pytest.mark.parametrize("phrase", ["собака", "狗", "🐶", "xxxx", "…", "of the"])
def test_a_phrase_that_the_encoder_cannot_read_is_improbable_and_said(built, phrase, caplog):
    [hit] = rg.Index.open(built).query(phrase)
    assert hit.probability == 0.0
    assert "knows English only" in caplog.text
    assert rg.Index.open(built).query(phrase, min_probability=0.01) == []
    caplog.clear()
    rg.Index.open(built).query(["a red square", "un square"])
    assert caplog.messages == []


def test_grounding_says_so_too(photos, caplog):
    assert rg.ground(photos / "a.png", "собака").probability == 0.0
    assert "knows English only" in caplog.text


@pytest.mark.parametrize("name", ["workers", "shard_images", "batch_images"])
def test_impossible_options_are_one_sentence(name):
    with pytest.raises(rg.GroundingError, match=f"{name} must be at least 1, not 0"):
        rg.BuildOptions(**{name: 0})


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("mps", "finds no device for 'mps'"),
        ("xpu", "finds no device for 'xpu'"),
        ("cuda:99", "finds no device"),
        ("meta", "cannot run on 'meta'"),
        ("gpu", "is not a valid device"),
    ],
)
def test_devices_that_are_not_there_are_one_sentence(device, message):
    import torch

    if getattr(torch.backends, "mps", None) and torch.backends.mps.is_available():
        pytest.skip("this machine has an MPS device")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(rg.ModelError, match=message):
        resolve_device(device)


def test_other_accelerators_give_what_a_cpu_gives(monkeypatch):
    """Their path is not CUDA's; here a CPU under another name takes it."""
    images = [Image.effect_noise((200, 150), 90).convert("RGB") for _ in range(2)]
    detector, encoder = rg.load_detector(), rg.load_encoder()
    regions = detector.detect(images)
    expected = encoder.encode_regions(images, regions)
    monkeypatch.setattr(detector, "device", "cpu:0")
    monkeypatch.setattr(encoder, "device", "cpu:0")
    assert detector.detect(images) == regions
    np.testing.assert_allclose(encoder.encode_regions(images, regions), expected, atol=1e-5)
