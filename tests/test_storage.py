from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_grounding import Regions, StoreError, StoreLockedError
from retrieval_grounding.storage.catalog import Catalog, SkippedFile, StoredImage
from retrieval_grounding.storage.files import atomic_path
from retrieval_grounding.storage.lock import writer_lock
from retrieval_grounding.storage.shards import (
    ImageRecord,
    ShardReader,
    region_ids,
    split_region_ids,
    write_shard,
)


def no_labels(names: list[str]) -> np.ndarray:
    return np.zeros((len(names), 2), np.float32)


def random_records(counts: list[int], dimension: int, seed: int) -> list[ImageRecord]:
    generator = np.random.default_rng(seed)
    records = []
    for count in counts:
        corners = generator.uniform(0, 500, (count, 2))
        boxes = np.concatenate([corners, corners + generator.uniform(1, 100, (count, 2))], 1)
        labels = [str(label) for label in generator.choice(["dog", "café", "a b"], count)]
        vectors = generator.normal(size=(count, dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        colours = generator.integers(0, 256, (count, 11)).astype(np.uint8)
        regions = Regions(boxes, generator.uniform(0, 1, count), labels)
        records.append(ImageRecord(640, 480, regions, vectors, colours))
    return records


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    dimension=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_a_shard_gives_back_what_was_written(tmp_path_factory, counts, dimension, seed):
    path = tmp_path_factory.mktemp("shards") / "000007.h5"
    records = random_records(counts, dimension, seed)
    write_shard(path, records, embed_labels=no_labels, detector="d", encoder="e")
    reader = ShardReader(path, 7)
    assert reader.encoder == "e"
    for row, record in enumerate(records):
        assert reader.regions(row) == record.regions
        stored = reader.embeddings[reader.image_slice(row)]
        np.testing.assert_array_equal(stored, record.embeddings.astype(np.float16))
    shards, rows = split_region_ids(reader.ids)
    assert (shards == 7).all()
    np.testing.assert_array_equal(rows, np.arange(sum(counts)))
    np.testing.assert_array_equal(
        reader.image_rows(rows), np.repeat(np.arange(len(counts)), counts)
    )


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**32 - 1))
def test_region_ids_can_be_split_again(shard, row):
    shards, rows = split_region_ids(region_ids(shard, np.array([row], np.int64)))
    assert (shards[0], rows[0]) == (shard, row)


def test_a_damaged_shard_is_named(tmp_path):
    path = tmp_path / "000001.h5"
    write_shard(path, random_records([3], 4, 0), embed_labels=no_labels, detector="d", encoder="e")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StoreError, match=r"000001\.h5"):
        ShardReader(path, 1)


def test_a_newer_shard_is_refused(tmp_path):
    path = tmp_path / "000001.h5"
    write_shard(path, random_records([3], 4, 0), embed_labels=no_labels, detector="d", encoder="e")
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(StoreError, match="format version 99"):
        ShardReader(path, 1)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half"), atomic_path(path) as temporary:
        temporary.write_text("half of the new")
        raise RuntimeError("half")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.create(tmp_path, {"dimension": 4})


def stored(path: str) -> StoredImage:
    return StoredImage(path, 10, 20, "hash", 640, 480)


def test_the_catalog_remembers_images_and_skipped_files(catalog):
    before = catalog.generation
    catalog.add_skipped([SkippedFile("b", "truncated", "…", 5, 6)])
    assert catalog.generation == before
    catalog.add_shard(catalog.next_shard(), "1.h5", 7, "sum", [stored("a"), stored("c")])
    assert catalog.generation == before + 1
    assert catalog.counts() == {"images": 2, "shards": 1, "skipped": 1, "regions": 7}
    assert catalog.indexed_files() == {"a": (10, 20), "c": (10, 20)}
    assert catalog.skipped() == [SkippedFile("b", "truncated", "…", 5, 6)]
    assert [image.path for image in catalog.images_at(1, 1)] == ["c"]


def test_an_image_that_changed_moves_to_its_new_row(catalog):
    catalog.add_shard(catalog.next_shard(), "1.h5", 1, "sum", [stored("a")])
    catalog.add_shard(catalog.next_shard(), "2.h5", 1, "sum", [stored("a")])
    assert catalog.images_at(1, 0) == []
    assert [image.path for image in catalog.images_at(2, 0)] == ["a"]
    catalog.add_skipped([SkippedFile("a", "truncated", "…")])
    assert catalog.counts()["images"] == 0


def test_a_shard_is_committed_whole_or_not_at_all(catalog):
    twice = [stored("a")]
    catalog.add_shard(1, "1.h5", 1, "sum", twice)
    with pytest.raises(StoreError):
        catalog.add_shard(1, "other.h5", 1, "sum", [stored("z")])
    assert catalog.indexed_files().keys() == {"a"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE settings SET value = '99' WHERE key = 'format_version'", "format version 99"),
        ("DROP TABLE settings", "damaged"),
    ],
)
def test_a_catalog_of_another_kind_is_refused(catalog, tmp_path, damage, message):
    catalog.close()
    with sqlite3.connect(tmp_path / "catalog.sqlite") as connection:
        connection.execute(damage)
    with pytest.raises(StoreError, match=message):
        Catalog(tmp_path)


def test_bytes_that_are_no_catalog_are_refused(tmp_path):
    (tmp_path / "catalog.sqlite").write_bytes(b"not a database at all" * 50)
    with pytest.raises(StoreError, match="damaged"):
        Catalog(tmp_path)


def test_the_second_writer_is_told_who_holds_the_lock(tmp_path):
    code = (
        "import sys, pathlib\n"
        "from retrieval_grounding.storage.lock import writer_lock\n"
        "with writer_lock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreLockedError, match=f"process {holder.pid} on "):
            writer_lock(tmp_path).__enter__()
        holder.kill()
        holder.wait()
    with writer_lock(tmp_path):  # the lock of a killed process is not in the way
        assert str(os.getpid()) in (tmp_path / ".writer.json").read_text()
