from __future__ import annotations

import dataclasses
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_grounding import Regions, StoreError, StoreLockedError
from retrieval_grounding.core.reports import SkippedFile
from retrieval_grounding.storage import open_shards
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.files import atomic_path, file_checksum
from retrieval_grounding.storage.lock import writer_lock
from retrieval_grounding.storage.region_ids import region_ids, split_region_ids
from retrieval_grounding.storage.rows import NewShard, StoredImage, StoredRow
from retrieval_grounding.storage.shard_format import ImageRecord, write_shard
from retrieval_grounding.storage.shards import ShardReader


def write(folder: Path, records: list[ImageRecord], number: int = 1) -> NewShard:
    dimension = records[0].embeddings.shape[1]
    return write_shard(
        folder,
        number,
        records,
        embed_labels=lambda names: np.zeros((len(names), dimension), np.float32),
        detector="d",
        encoder="e",
    )


def random_records(counts: list[int], dimension: int, seed: int) -> list[ImageRecord]:
    generator = np.random.default_rng(seed)
    records = []
    for count in counts:
        corners = generator.uniform(0, 500, (count, 2))
        boxes = np.concatenate([corners, corners + generator.uniform(1, 100, (count, 2))], 1)
        labels = [str(label) for label in generator.choice(["dog", "café", "a b"], count)]
        vectors = generator.normal(size=(count, dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        colors = generator.integers(0, 256, (count, 11)).astype(np.uint8)
        regions = Regions(boxes, generator.uniform(0, 1, count), labels)
        records.append(ImageRecord("hash", 640, 480, regions, vectors, colors))
    return records


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    dimension=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_a_shard_gives_back_what_was_written(tmp_path_factory, counts, dimension, seed):
    folder = tmp_path_factory.mktemp("shards")
    records = random_records(counts, dimension, seed)
    written = write(folder, records, 7)
    path = folder / written.file
    assert written.checksum == file_checksum(path)
    reader = ShardReader(path, 7)
    assert (reader.detector, reader.encoder) == ("d", "e")
    assert [row.checksum for row in written.rows] == [
        reader.row_checksum(row) for row in range(len(records))
    ]
    other = write(folder, [reader.record(row, "hash") for row in range(len(records))], 8)
    assert other == dataclasses.replace(written, number=8, file="000008.h5")
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
    path = tmp_path / write(tmp_path, random_records([3], 4, 0)).file
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StoreError, match=r"000001\.h5"):
        ShardReader(path, 1)


def test_a_newer_shard_is_refused(tmp_path):
    path = tmp_path / write(tmp_path, random_records([3], 4, 0)).file
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


def stored(path: str, shard: int = 1, row: int = 0) -> StoredImage:
    return StoredImage(path, 10, 20, shard, row)


def shard(number: int, regions: list[int], file: str | None = None) -> NewShard:
    rows = [StoredRow(f"hash {number} {n}", 640, 480, n, "sum") for n in regions]
    return NewShard(number, file or f"{number}.h5", "sum", rows)


def paths_at(catalog: Catalog, *keys: tuple[int, int]) -> dict[tuple[int, int], list[str]]:
    found = catalog.images_at(keys)
    return {key: [image.path for image in images] for key, images in found.items()}


def test_the_catalog_remembers_images_and_skipped_files(catalog):
    before = catalog.generation
    bad = SkippedFile("b", "truncated", "…", 5, 6)
    catalog.commit(skipped=[bad])
    assert catalog.generation == before
    catalog.commit(shard=shard(1, [3, 4]), images=[stored("a"), stored("c", row=1)])
    assert catalog.generation == before + 1
    assert catalog.counts() == {
        "images": 2, "shards": 1, "skipped": 1, "regions": 7, "unused_regions": 0,
    }  # fmt: skip
    assert catalog.known_files() == {"a": (10, 20, 1, 0), "c": (10, 20, 1, 1)}
    assert catalog.rows_by_content() == {"hash 1 3": (1, 0), "hash 1 4": (1, 1)}
    assert catalog.skipped() == [bad]
    assert catalog.shard_regions() == {1: 7}
    assert paths_at(catalog, (1, 1), (1, 0), (7, 0)) == {(1, 0): ["a"], (1, 1): ["c"]}
    assert catalog.problems() == []


def test_images_share_rows_and_leave_them(catalog):
    catalog.commit(shard=shard(1, [3]), images=[stored("a"), stored("b")])
    assert paths_at(catalog, (1, 0)) == {(1, 0): ["a", "b"]}
    assert catalog.counts()["regions"] == 3
    catalog.commit(shard=shard(2, [5]), images=[stored("a", 2)])
    assert paths_at(catalog, (1, 0)) == {(1, 0): ["b"]}
    catalog.commit(skipped=[SkippedFile("b", "truncated", "…")])
    assert paths_at(catalog, (1, 0), (2, 0)) == {(2, 0): ["a"]}
    assert catalog.counts()["unused_regions"] == 3
    catalog.commit(removed=["a", "b", "unknown"])
    assert (catalog.counts()["images"], catalog.counts()["skipped"]) == (0, 0)
    assert catalog.next_shard() == 3


def test_a_new_time_alone_does_not_change_the_images(catalog):
    catalog.commit(shard=shard(1, [3]), images=[stored("a")])
    before = catalog.generation
    catalog.commit(touched=[StoredImage("a", 10, 99, 1, 0)])
    assert catalog.generation == before
    assert catalog.known_files()["a"].mtime_ns == 99


def test_a_shard_is_committed_whole_or_not_at_all(catalog):
    catalog.commit(shard=shard(1, [1]), images=[stored("a")])
    with pytest.raises(StoreError):
        catalog.commit(shard=shard(1, [1], "other.h5"), images=[stored("z")])
    assert catalog.known_files().keys() == {"a"}


def test_a_reader_keeps_one_state_until_it_is_done(catalog, tmp_path):
    reader = Catalog(tmp_path)
    with reader.reading():
        before = reader.generation
        blocked = threading.Thread(
            target=lambda: catalog.commit(shard=shard(1, [1]), images=[stored("a")])
        )
        blocked.start()
        time.sleep(0.05)
        assert reader.generation == before
        assert reader.counts()["images"] == 0
    blocked.join()
    assert (reader.generation, reader.counts()["images"]) == (before + 1, 1)


def test_open_shards_close_the_least_recently_used(catalog, tmp_path, monkeypatch):
    for number in (1, 2, 3):
        catalog.commit(shard=write(tmp_path / "shards", random_records([3], 4, number), number))
    monkeypatch.setattr(open_shards, "_MAX_OPEN", 2)
    shards = open_shards.OpenShards(catalog)
    first, second = shards.get(1), shards.get(2)
    assert shards.get(1) is first
    shards.get(3)
    assert shards.get(1) is first
    assert shards.get(2) is not second
    with pytest.raises(StoreError, match=r"shard 4 of .* no longer exists"):
        shards.get(4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE settings SET value = '99' WHERE key = 'format_version'", "format version 99"),
        ("DROP TABLE settings", "damaged"),
    ],
)
def test_a_newer_or_damaged_catalog_is_refused(catalog, tmp_path, damage, message):
    catalog.close()
    with sqlite3.connect(tmp_path / "catalog.sqlite") as connection:
        connection.execute(damage)
    with pytest.raises(StoreError, match=message):
        Catalog(tmp_path)


def test_bytes_that_are_not_a_catalog_are_refused(tmp_path):
    (tmp_path / "catalog.sqlite").write_bytes(b"not a database at all" * 50)
    with pytest.raises(StoreError, match="damaged"):
        Catalog(tmp_path)


def test_the_second_writer_learns_who_holds_the_lock(tmp_path):
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
    with writer_lock(tmp_path):  # the lock of a killed process does not block
        assert str(os.getpid()) in (tmp_path / ".writer.json").read_text()
