"""Renewing an index with another encoder: nothing is lost, whatever happens on the way."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import ColorEncoder, SquareDetector, draw_squares, vectors_file

import retrieval_grounding as rg
from retrieval_grounding.indexing import reembed as module
from retrieval_grounding.indexing.reembed_state import REEMBED_FOLDER
from retrieval_grounding.models.encoder import Fingerprint
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.lock import writer_lock
from retrieval_grounding.storage.region_store import RegionStore

QUIET = rg.BuildOptions(progress=False, workers=1)
ONE_EACH = rg.BuildOptions(progress=False, workers=1, batch_images=1, shard_images=1)


class OtherColors(ColorEncoder):
    """The same space with other weights: embeddings of the two must not be mixed."""

    fingerprint = Fingerprint("colours", "weights-2", "none")

    def encode_regions(self, images, regions):
        return -super().encode_regions(images, regions)

    def encode_phrases(self, phrases):
        return -super().encode_phrases(phrases)


class PixelEncoder(ColorEncoder):
    """A space of another dimension: the mean color, and twelve numbers that say nothing."""

    fingerprint = Fingerprint("pixels", "weights-3", "none")
    dimension = 16

    def encode_regions(self, images, regions):
        return self._padded(super().encode_regions(images, regions))

    def encode_phrases(self, phrases):
        return self._padded(super().encode_phrases(phrases))

    def _padded(self, rows):
        return np.pad(rows.reshape(-1, 4), ((0, 0), (12, 0))).astype(np.float32)


class KilledError(Exception):
    """Stands for a kill."""


@pytest.fixture
def index(photos, tmp_path, models) -> rg.Index:
    shutil.copy(photos / "a.png", photos / "copy.png")
    return rg.build(photos, tmp_path / "index", options=QUIET, **models)


def contents(directory: Path) -> dict[str, tuple]:
    """Return everything that an index knows of its images, with rounded embeddings."""
    with contextlib.closing(Catalog(directory)) as catalog:
        store = RegionStore(catalog)
        found = {}
        for image in catalog.images():
            table = store.gather([(image.shard, image.row)])
            found[Path(image.path).name] = (
                table.boxes.tolist(),
                [table.label(row) for row in range(len(table.boxes))],
                table.colors.tolist(),
                table.embeddings.astype(np.float32).round(2).tolist(),
            )
        store.close()
        return found


def test_an_index_has_the_boxes_of_before_and_the_embeddings_of_the_new_encoder(
    index, photos, tmp_path
):
    before = contents(index.directory)
    report = index.reembed(PixelEncoder(), options=QUIET)
    assert (report.images, report.dropped) == (4, [])
    built = rg.build(
        photos, tmp_path / "other", detector=SquareDetector(), clip=PixelEncoder(), options=QUIET
    )
    assert contents(index.directory) == contents(built.directory)
    assert {name: part[:3] for name, part in contents(index.directory).items()} == {
        name: part[:3] for name, part in before.items()
    }
    assert index.verify().faults == []
    assert not (index.directory / REEMBED_FOLDER).exists()
    assert vectors_file(index.directory).exists()
    assert len(list((index.directory / "shards").iterdir())) == 1
    ours, theirs = (i.query("red", top=9, matcher="cosine") for i in (index, built))
    assert [h.image for h in ours] == [h.image for h in theirs]


def test_an_open_index_never_mixes_the_embeddings_of_two_encoders(index):
    reader = rg.Index.open(index.directory, encoder=ColorEncoder())
    best = reader.query("a red square")[0].image
    index.reembed(OtherColors(), options=QUIET)
    assert index.query("a red square")[0].image == best
    with pytest.raises(rg.StoreError, match="has been embedded again"):
        reader.query("a red square")
    with pytest.raises(rg.ModelError, match="was built with the encoder"):
        rg.Index.open(index.directory, encoder=ColorEncoder())


def test_the_same_encoder_changes_nothing(index):
    files = sorted(index.directory.rglob("*.h5"))
    report = index.reembed(ColorEncoder(), options=QUIET)
    assert "already" in report.notes[0]
    assert sorted(index.directory.rglob("*.h5")) == files


def test_a_copy_stands_in_for_a_file_that_is_gone(index, photos):
    (photos / "a.png").unlink()
    assert index.reembed(PixelEncoder(), options=QUIET).images == 4
    assert "a.png" in contents(index.directory)


@pytest.mark.parametrize("reason", ["missing", "changed"])
def test_images_without_their_file_are_an_error_or_are_dropped(index, photos, reason):
    before = contents(index.directory)
    (photos / "b.png").unlink()
    if reason == "changed":
        draw_squares(photos / "b.png", {"blue": (5, 5, 25, 25)})
    with pytest.raises(rg.GroundingError, match=r"1 image cannot be embedded again .*b\.png"):
        index.reembed(PixelEncoder(), options=QUIET)
    assert contents(index.directory) == before
    assert index.query("green")[0].image.endswith("b.png")
    report = index.reembed(PixelEncoder(), drop_missing=True, options=QUIET)
    assert [file.reason for file in report.dropped] == [reason]
    assert (report.images, report.resumed) == (3, 3)
    assert set(contents(index.directory)) == {"a.png", "c.png", "copy.png", "d.png"}
    assert index.verify().faults == []


def stop_at(monkeypatch, owner, name, call):
    """Let the given call of a function raise, as if the process had been killed there."""
    usual, calls = getattr(owner, name), []

    def stopping(*args, **options):
        calls.append(name)
        if len(calls) == call:
            raise KilledError
        return usual(*args, **options)

    monkeypatch.setattr(owner, name, stopping)


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (module, "write_shard", 1),
        (module, "write_shard", 3),
        (module.ReembedState, "save", 3),
        (module.ReembedState, "place", 1),
        (module.ReembedState, "place", 3),
        (Catalog, "replace_shards", 1),
        (module, "calibrate_index", 1),
        (module, "discard_state", 2),
    ],
)
def test_a_kill_at_any_moment_leaves_an_index_and_the_work_that_was_done(
    index, tmp_path, monkeypatch, owner, name, call
):
    other = shutil.copytree(index.directory, tmp_path / "undisturbed")
    rg.Index.open(other, encoder=ColorEncoder()).reembed(PixelEncoder(), options=ONE_EACH)
    before = contents(index.directory)
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        stop_at(patched, owner, name, call)
        index.reembed(PixelEncoder(), options=ONE_EACH)
    switched = name in ("calibrate_index", "discard_state")
    assert (contents(index.directory) == before) != switched
    encoder = PixelEncoder() if switched else ColorEncoder()
    reader = rg.Index.open(index.directory, encoder=encoder)
    assert len(reader.query("a red square", top=9)) == 5
    again = reader.reembed(PixelEncoder(), options=ONE_EACH)
    if not switched:
        assert again.resumed >= {"place": 4, "replace_shards": 4}.get(name, call - 2)
    assert contents(index.directory) == contents(other)
    assert reader.verify().faults == []
    assert not (index.directory / REEMBED_FOLDER).exists()
    assert len(list((index.directory / "shards").iterdir())) == 4


@pytest.mark.parametrize("name", ["place", "replace_shards"])
def test_other_writers_go_on_after_a_kill(index, photos, monkeypatch, name):
    owner = Catalog if name == "replace_shards" else module.ReembedState
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        stop_at(patched, owner, name, 1)
        index.reembed(PixelEncoder(), options=ONE_EACH)
    draw_squares(photos / "e.png", {"yellow": (5, 5, 25, 25)})
    models = {"detector": SquareDetector(), "clip": ColorEncoder()}
    grown = rg.build(photos, index.directory, options=QUIET, **models)
    assert grown.query("yellow")[0].image.endswith("e.png")
    assert grown.reembed(PixelEncoder(), options=QUIET).resumed == 4
    assert "e.png" in contents(index.directory)
    assert grown.verify().faults == []


def test_damaged_leftovers_are_embedded_again(index, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        stop_at(patched, Catalog, "replace_shards", 1)
        index.reembed(PixelEncoder(), options=ONE_EACH)
    folder = index.directory / REEMBED_FOLDER
    (folder / "000001.h5").write_bytes(b"nothing")
    assert index.reembed(PixelEncoder(), options=ONE_EACH).resumed == 3
    assert index.verify().faults == []


def test_a_link_in_place_of_the_folder_is_refused(index, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (index.directory / REEMBED_FOLDER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(rg.StoreError, match="is a link"):
        index.reembed(PixelEncoder(), options=QUIET)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_damaged_list_starts_over(index, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        stop_at(patched, module, "write_shard", 3)
        index.reembed(PixelEncoder(), options=ONE_EACH)
    (index.directory / REEMBED_FOLDER / "state.json").write_text("[1", encoding="utf-8")
    assert index.reembed(PixelEncoder(), options=ONE_EACH).resumed == 0


def test_a_second_writer_is_refused(index):
    with writer_lock(index.directory), pytest.raises(rg.StoreLockedError):
        index.reembed(PixelEncoder(), options=QUIET)


@pytest.mark.slow
def test_the_command_says_what_no_longer_fits(photos, tmp_path):
    """From nano to a copy of it with other weights: the bundled matcher fits only nano."""
    import torch
    from safetensors.torch import load_file, save_file

    index = rg.build(photos, tmp_path / "index", options=QUIET)
    weights = Path(rg.__file__).parent / "models" / "weights" / "nano-clip"
    clip = Path(shutil.copytree(weights, tmp_path / "clip"))
    file = clip / "open_clip_model.safetensors"
    tensors = load_file(file)
    tensors["logit_scale"] = tensors["logit_scale"] + torch.tensor(1.0, dtype=torch.float16)
    save_file(tensors, file, {"format": "pt"})
    command = [sys.executable, "-m", "retrieval_grounding", "reembed", str(index.directory)]
    done = subprocess.run(
        [*command, "--clip", str(clip), "--json"],
        capture_output=True, text=True, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["images"] == 4
    assert "nano's matcher does not fit the new encoder" in report["notes"][0]
    facts = rg.Index.open(index.directory).info()
    assert (facts["preset"], facts["clip"]) == (None, str(clip))
    assert index.query("a red square", top=9)
