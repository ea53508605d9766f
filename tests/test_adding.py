"""Adding images one by one, and merging the small shards that this leaves (inputs, point 10)."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import numpy as np
import pytest
from fakes import SquareDetector, draw_squares
from hypothesis import given
from hypothesis import strategies as st
from kill_writers import content, hits
from PIL import Image

import retrieval_grounding as rg
from retrieval_grounding.indexing import add as adding
from retrieval_grounding.indexing.merge import choose_shards
from retrieval_grounding.storage.catalog import Catalog

OPTIONS = rg.BuildOptions(progress=False, shard_images=16, workers=1)


def square(color: str, x: int) -> Image.Image:
    image = Image.new("RGB", (80, 60), (128, 128, 128))
    image.paste({"red": (220, 20, 20), "blue": (20, 20, 220)}[color], (x, 5, x + 10, 15))
    return image


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def index(tmp_path, models):
    empty = rg.BuildOptions(progress=False, allow_empty=True)
    with rg.build([], tmp_path / "index", options=empty, **models) as opened:
        yield opened


@pytest.fixture
def add(index):
    def add(images, **options) -> rg.BuildReport:
        return index.add(images, detector=SquareDetector(), options=OPTIONS, **options)

    return add


def numbers(report: rg.BuildReport) -> tuple[int, ...]:
    return (report.added, report.updated, report.unchanged, report.duplicates, len(report.skipped))


def test_images_are_found_at_once_wherever_they_come_from(index, add, tmp_path):
    path = draw_squares(tmp_path / "a.png", {"green": (5, 5, 25, 25)})
    assert numbers(add(path)) == (1, 0, 0, 0, 0)
    assert index.query("green", top=1)[0].image == str(path)
    data = png(square("red", 3))
    for same in (data, io.BytesIO(data), bytearray(data)):
        add(same)
    pixels = np.asarray(square("blue", 7))
    assert numbers(add([pixels, Image.fromarray(pixels)])) == (1, 0, 1, 0, 0)
    found = {hit.image: hit for hit in index.query("red")}
    assert len(found) == len(index) == 3
    best = index.query("red", top=1)[0]
    assert best.image == f"content:{best.content_hash}"
    assert not best.missing
    assert best.box == (3, 5, 13, 15)
    assert index.query("blue", top=1)[0].box == (7, 5, 17, 15)
    assert not index.verify().faults


def test_an_address_is_replaced_and_copies_share_regions(index, add, tmp_path):
    path = draw_squares(tmp_path / "a.png", {"green": (5, 5, 25, 25)})
    copy = tmp_path / "copy.png"
    copy.write_bytes(path.read_bytes())
    assert numbers(add([path, copy, path])) == (1, 0, 1, 1, 0)
    draw_squares(path, {"red": (5, 5, 25, 25)})
    report = add(path)
    assert (numbers(report), report.embedded) == ((0, 1, 0, 0, 0), 1)
    assert {hit.image for hit in index.query("red", top=1)} == {str(path)}
    assert {hit.image for hit in index.query("green", top=1)} == {str(copy)}


def test_what_cannot_be_used_is_reported_and_nothing_else_is_lost(index, add, tmp_path):
    path = draw_squares(tmp_path / "a.png", {"green": (5, 5, 25, 25)})
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    report = add([bad, b"no image", np.zeros(3), tmp_path / "none.png", path, b""])
    assert [file.reason for file in report.skipped] == [
        "not-an-image", "not-an-image", "not-an-image", "missing", "empty"
    ]  # fmt: skip
    assert report.skipped[2].path == "image 2"
    assert (report.added, report.found) == (1, 6)
    assert {Path(file.path).name for file in index.skipped()} == {"bad.png", "none.png"}
    path.unlink()
    report = add(path)  # gone, which says nothing about what is known of it
    assert report.skipped_reasons == {"missing": 1}
    assert len(index) == 1
    assert index.remove(path) == 1
    draw_squares(path, {"green": (5, 5, 25, 25)})
    assert add(path).embedded == 0  # its regions are still there
    assert len(index) == 1


def test_removed_content_is_named_by_its_address(index, add):
    add([png(square("red", x)) for x in range(3)])
    address = index.query("red", top=1)[0].image
    assert index.remove(address) == 1
    assert len(index) == 2
    with pytest.raises(rg.StoreError, match="has no image"):
        index.remove(address)


def test_a_build_leaves_images_without_a_path_alone(index, add, photos, models):
    add([png(square("red", 3)), (photos / "a.png").read_bytes()])
    options = rg.BuildOptions(progress=False, prune=True)
    report = rg.build(photos, index.directory, options=options, **models).build_report
    assert (report.added, report.duplicates, report.moved, report.missing) == (3, 1, 0, [])
    assert len(index) == 6


def test_one_by_one_gives_the_hits_of_a_build_with_few_shards(index, tmp_path, models):
    photos = tmp_path / "photos"
    photos.mkdir()
    generator = random.Random(0)
    for number in range(60):
        color = generator.choice(["red", "blue"])
        x = generator.randrange(40)
        draw_squares(photos / f"{number:02}.png", {color: (x, 5, x + 20, 25)})
    for path in sorted(photos.iterdir()):
        index.add(path, detector=SquareDetector(), options=OPTIONS)
    counts = index.info()
    assert counts["shards"] <= 60 / 16 + 6 + 3
    assert counts["unused_regions"] == 0
    whole = tmp_path / "whole"
    rg.build(photos, whole, options=OPTIONS, **models)
    assert content(index.directory) == content(whole)
    ours, theirs = hits(index.directory), hits(whole)
    assert [hit[:3] for hit in ours] == [hit[:3] for hit in theirs]
    assert not index.verify().faults


def test_many_regions_are_indexed_and_few_are_not(index, add, monkeypatch):
    synced = []
    sync = adding.sync_vectors
    monkeypatch.setattr(adding, "sync_vectors", lambda *a: (synced.append(1), sync(*a)))
    for x in range(5):
        add(square("red", x))
    assert not synced
    assert index.info()["vectors"]["unindexed_shards"] > 0
    monkeypatch.setattr("retrieval_grounding.storage.vectors.sync._MAX_UNINDEXED", 10)
    monkeypatch.setattr("retrieval_grounding.storage.vectors.sync._MAX_UNINDEXED_SHARE", 0)
    add(square("red", 20))
    assert synced
    assert index.info()["vectors"]["unindexed_shards"] == 0
    assert len(index.query("red")) == len(index) == 6
    for x in range(21, 25):
        add(square("blue", x))
    assert len(index.query("red")) == len(index) == 10
    assert not index.verify().faults


def test_merging_keeps_unused_rows_and_leaves_damaged_shards_alone(index, add, caplog, tmp_path):
    path = tmp_path / "a.png"
    square("red", 30).save(path)
    add(path)
    for x in range(4):
        add(square("red", x))
    catalog = Catalog(index.directory)
    assert len(catalog.shard_files()) == 5
    damaged = index.directory / "shards" / catalog.shard_files()[2]
    data = bytearray(damaged.read_bytes())
    data[data.index(np.float32(0.9).tobytes())] ^= 1  # a score
    damaged.write_bytes(data)
    square("blue", 30).save(path)
    add(path)
    assert "were not merged" in caplog.text
    assert len(index) == 5
    assert index.verify().faults
    assert index.info()["unused_regions"] == 2


def test_a_merge_that_fails_loses_nothing(index, add, monkeypatch):
    for x in range(5):
        add(square("red", x))
    replace = Catalog.replace_rows

    def fail(*_: object) -> None:
        raise rg.StoreError("the disk is full")

    monkeypatch.setattr(Catalog, "replace_rows", fail)
    add(square("red", 30))
    assert len(index) == len(index.query("red")) == 6
    monkeypatch.setattr(Catalog, "replace_rows", replace)
    add(square("red", 31))
    assert index.info()["shards"] < 7
    assert not index.verify().faults
    names = {path.name for path in (index.directory / "shards").iterdir()}
    assert names == set(Catalog(index.directory).shard_files().values())


def test_removing_in_between_leaves_few_shards_all_the_same(index, add):
    for x in range(22):
        add(square("red", x))
        index.remove(f"content:{index.query('red', top=1)[0].content_hash}")
    assert index.info()["shards"] < 20
    assert not index.verify().faults


def test_builds_merge_what_many_small_builds_leave(tmp_path, models):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(12):
        draw_squares(photos / f"{number}.png", {"red": (number, 5, number + 9, 25)})
        index = rg.build(photos, tmp_path / "index", options=OPTIONS, **models)
    assert index.info()["shards"] <= 7
    assert index.info()["vectors"]["unindexed_shards"] == 0
    assert len(index.query("red", top=20)) == 12
    assert not index.verify().faults


@given(st.lists(st.integers(1, 600), max_size=40), st.integers(1, 600), st.sets(st.integers(0, 40)))
def test_merging_ends_and_never_overfills_a_shard(sizes, capacity, keep):
    shards = dict(enumerate(sizes))
    number = len(shards)
    while chosen := choose_shards(shards, keep, capacity):
        assert len(chosen) > 1
        assert not keep.intersection(chosen)
        merged = sum(shards.pop(name) for name in chosen)
        assert merged <= capacity
        number += 41  # outside of what is kept
        shards[number] = merged
    assert sum(shards.values()) == sum(sizes)


def test_the_decoding_process_ends_with_the_index(tmp_path, models, photos):
    index = rg.build(photos, tmp_path / "index", **models)
    index.add(png(square("red", 1)), detector=SquareDetector())
    decoder = index._opened.decoder
    process = decoder._process
    assert process.poll() is None
    if hasattr(os, "fork"):
        child = os.fork()
        if child == 0:
            same = index._opened._decoder is None
            index.close()
            os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert process.poll() is None  # the child has not ended it
    index.close()
    assert process.poll() is not None
    with pytest.raises(rg.StoreError, match="closed"):
        index.add(b"x")


def test_another_detector_or_writer_is_refused(index, models):
    class Other(SquareDetector):
        fingerprint = "other"

    with pytest.raises(rg.ModelError, match="was built with the detector"):
        index.add(png(square("red", 1)), detector=Other())
    with pytest.raises(rg.ModelError, match="model objects"):
        index.add(png(square("red", 1)))
    assert len(index) == 0
