"""Vector indexes of every kind: choosing, training, tuning, syncing, concurrent search."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import ColorEncoder, vectors_file
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.matching.matcher import CosineMatcher
from retrieval_grounding.models.encoder import Fingerprint
from retrieval_grounding.search import snapshot
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.open_shards import OpenShards
from retrieval_grounding.storage.region_store import RegionStore
from retrieval_grounding.storage.rows import StoredImage
from retrieval_grounding.storage.shard_format import ImageRecord, write_shard
from retrieval_grounding.storage.shards import ShardReader
from retrieval_grounding.storage.vectors import gpu
from retrieval_grounding.storage.vectors import search as vector_search
from retrieval_grounding.storage.vectors.exact import ShardVectors
from retrieval_grounding.storage.vectors.faiss_index import FaissIndex, import_faiss
from retrieval_grounding.storage.vectors.gpu import combine_parts, copy_to_gpus, gpu_numbers
from retrieval_grounding.storage.vectors.kinds import KINDS
from retrieval_grounding.storage.vectors.load import load_vectors
from retrieval_grounding.storage.vectors.metadata import (
    Tuning,
    VectorMetadata,
    read_metadata,
    write_metadata,
)
from retrieval_grounding.storage.vectors.search import VectorSearch
from retrieval_grounding.storage.vectors.search_parameters import SearchParameters
from retrieval_grounding.storage.vectors.selection import Selection
from retrieval_grounding.storage.vectors.sync import (
    reason_to_reindex,
    rebuild_vectors,
    sync_vectors,
)

DIMENSION = 32
PHRASES = [f"phrase {number}" for number in range(40)]


class RandomEncoder(ColorEncoder):
    """Embeds every phrase at random, but always the same way."""

    dimension = DIMENSION
    fingerprint = Fingerprint("drawn", "weights-1", "none")

    def encode_phrases(self, phrases):
        rows = [np.random.default_rng(list(p.encode())).normal(size=DIMENSION) for p in phrases]
        return unit(np.array(rows))


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def create(folder: Path) -> Catalog:
    settings = {
        "preset": None, "detector": None, "clip": None, "detector_settings": {},
        "detector_fingerprint": "d", "encoder_fingerprint": vars(RandomEncoder.fingerprint),
        "dimension": DIMENSION, "created_with": "test",
    }  # fmt: skip
    return Catalog.create(folder, settings)


def add_shard(catalog: Catalog, images: int, seed: int) -> int:
    """Commit a shard with clustered embeddings; return its number."""
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(0).normal(size=(20, DIMENSION))
    records = []
    for number in range(images):
        count = int(random.integers(2, 6))
        boxes = np.array([[0, 0, 64, 48]] + [[1, 1, 9 + n, 9] for n in range(count - 1)], float)
        found = rg.Regions(boxes, np.full(count, 0.5), ["whole image"] + ["thing"] * (count - 1))
        near = centers[random.integers(20, size=count)]
        rows = unit(near + 0.7 * random.normal(size=(count, DIMENSION)))
        colors = np.zeros((count, 11), np.uint8)
        records.append(ImageRecord(f"{seed}-{number}", 64, 48, found, rows, colors))
    shard = write_shard(
        catalog.directory / "shards", catalog.next_shard(), records,
        embed_labels=lambda names: np.tile(unit(np.ones((1, DIMENSION))), (len(names), 1)),
        detector="d", encoder=str(RandomEncoder.fingerprint),
    )  # fmt: skip
    paths = [f"/p/{shard.number}-{row}.jpg" for row in range(images)]
    images_ = [StoredImage(path, 1, 1, shard.number, row) for row, path in enumerate(paths)]
    catalog.commit(shard=shard, images=images_)
    return shard.number


def phrases() -> np.ndarray:
    return RandomEncoder().encode_phrases([f"tuned {number}" for number in range(40)])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """An index of 1,200 images in three shards, without vectors."""
    folder = tmp_path_factory.mktemp("made") / "index"
    catalog = create(folder)
    for seed in range(3):
        add_shard(catalog, 400, seed)
    catalog.close()
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "index"))


def reindexed(folder: Path, kind: str, recall: float = 0.98) -> VectorMetadata:
    return rebuild_vectors(Catalog(folder, writable=True), kind, recall, phrases)


def shard_vectors(folder: Path) -> ShardVectors:
    shards = OpenShards(Catalog(folder))
    return ShardVectors(shards.files, shards.get)


def opened(folder: Path) -> rg.Index:
    return rg.Index.open(folder, encoder=RandomEncoder(), device="cpu")


def ask(index: rg.Index, **how: object) -> list[list[tuple[str, int, float]]]:
    found = index.query(PHRASES, matcher=CosineMatcher(), **how)
    return [[(hit.image, hit.region_id, round(hit.score, 4)) for hit in hits] for hits in found]


@pytest.mark.parametrize("kind", KINDS)
def test_exact_queries_are_the_same_for_every_kind(folder, kind):
    reindexed(folder, "flat")
    expected = ask(opened(folder))
    assert reindexed(folder, kind).kind == kind
    assert ask(opened(folder), exact=True) == expected
    assert opened(folder).verify().faults == []


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_a_kind_is_tuned_to_its_recall_and_finds_it(folder, kind):
    reindexed(folder, "flat")
    truth = ask(opened(folder))
    tuning = reindexed(folder, kind, recall=0.9).tuning
    assert tuning.recall >= 0.88
    assert tuning.phrases == 20
    found = ask(opened(folder))
    shares = [
        len({i for i, _, _ in one} & {i for i, _, _ in other}) / len(other)
        for one, other in zip(found, truth, strict=True)
    ]
    assert np.mean(shares) >= 0.9
    facts = opened(folder).info()["vectors"]
    assert facts["kind"] == kind
    assert facts["reindex_because"] is None


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(["flat", "ivf"]),
    steps=st.lists(st.sampled_from(["add", "drop", "sync"]), max_size=6),
    seed=st.integers(0, 99),
)
def test_a_synced_index_equals_a_rebuilt_one(tmp_path_factory, kind, steps, seed):
    folder = tmp_path_factory.mktemp("follow") / "index"
    catalog = create(folder)
    numbers = [add_shard(catalog, 30, seed)]
    rebuild_vectors(catalog, kind, 0.98, phrases)
    for turn, step in enumerate([*steps, "sync"]):
        if step == "add":
            numbers.append(add_shard(catalog, 20, seed + turn + 1))
        elif step == "drop" and len(numbers) > 1:
            number = numbers.pop(0)
            rows = len(catalog.live_rows(number))
            catalog.commit(removed=[f"/p/{number}-{row}.jpg" for row in range(rows)])
            catalog.replace_rows([], None, [number])
        else:
            sync_vectors(catalog, phrases)
    index, metadata = load_vectors(catalog)
    files = catalog.shard_files()
    assert metadata.shards == tuple(files)
    readers = [ShardReader(folder / "shards" / file, number) for number, file in files.items()]
    expected = np.concatenate([reader.ids for reader in readers])
    assert sorted(index.ids.tolist()) == expected.tolist()
    before = ask(opened(folder), candidates=1000)
    saved = vectors_file(folder).read_bytes()
    rebuild_vectors(catalog, kind, 0.98, phrases)
    assert ask(opened(folder), candidates=1000) == before
    if kind == "flat":
        assert vectors_file(folder).read_bytes() == saved


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_a_reader_sees_shards_that_are_not_yet_in_the_vector_index(folder, kind):
    reindexed(folder, kind)
    reader = opened(folder)
    before = ask(reader)
    catalog = Catalog(folder, writable=True)
    number = add_shard(catalog, 100, 77)
    found = ask(reader, top=50)
    assert any(image.startswith(f"/p/{number}-") for hits in found for image, _, _ in hits)
    sync_vectors(catalog, phrases)
    assert [hits[0] for hits in ask(reader)] == [hits[0] for hits in found]
    catalog.commit(removed=[f"/p/{number}-{row}.jpg" for row in range(100)])
    assert [hits[0] for hits in ask(reader)] == [hits[0] for hits in before]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_threads_that_share_an_index_get_what_one_gets(folder, kind):
    reindexed(folder, kind)
    index = opened(folder)
    index.query(PHRASES[0], matcher=CosineMatcher())
    expected = ask(index)
    with ThreadPoolExecutor(8) as pool:
        calls = [
            pool.submit(index.query, phrase, matcher=CosineMatcher()) for phrase in 3 * PHRASES
        ]
        found = [
            [(hit.image, hit.region_id, round(hit.score, 4)) for hit in call.result()]
            for call in calls
        ]
    assert found == 3 * expected


@pytest.mark.parametrize("kind", KINDS)
def test_faiss_never_reads_a_flipped_bit(folder, kind):
    reindexed(folder, kind)
    expected = ask(opened(folder), exact=True)
    path = vectors_file(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(bytes(data))
    assert load_vectors(Catalog(folder)) is None
    assert ask(opened(folder)) == expected
    assert [fault.kind for fault in opened(folder).verify().faults] == ["damaged"]


def test_the_exact_kind_is_mapped_and_finds_the_same(folder):
    reindexed(folder, "flat")
    catalog = Catalog(folder)
    mapped, _ = load_vectors(catalog, mapped=True)
    read, _ = load_vectors(catalog)
    for one, other in zip(mapped.search(phrases(), 9), read.search(phrases(), 9), strict=True):
        np.testing.assert_array_equal(one, other)


def test_shard_vectors_score_what_they_find(folder):
    stored = shard_vectors(folder)
    rows = np.concatenate([block for block, _ in stored.blocks()])
    ids = np.concatenate([part for _, part in stored.blocks()])
    scores, found = stored.search(phrases(), 50)
    truth = phrases() @ rows.T
    np.testing.assert_allclose(scores, -np.sort(-truth, axis=1)[:, :50], atol=1e-5)
    shuffled = np.random.default_rng(0).permuted(found, axis=1)
    shuffled[0, 0], shuffled[1, 1] = -1, 99 << 32
    again = stored.score(phrases(), shuffled)
    assert np.isneginf([again[0, 0], again[1, 1]]).all()
    expected = np.take_along_axis(truth, np.searchsorted(ids, shuffled).clip(max=len(ids) - 1), 1)
    known = np.isfinite(again)
    np.testing.assert_allclose(again[known], expected[known], atol=1e-5)
    assert len(stored.sample(10**9)) == len(stored) == len(ids)


def test_a_graph_that_does_not_lead_to_the_selected_regions_is_not_trusted(folder, monkeypatch):
    """Regions of one label are near each other, and far from a phrase about something else."""
    monkeypatch.setattr(vector_search, "_FEW_REGIONS", 0)  # as in a large index
    reindexed(folder, "hnsw")
    stored = shard_vectors(folder)
    index, metadata = load_vectors(Catalog(folder), mapped=True)
    search = VectorSearch(stored.numbers, stored._open, index, metadata.shards, metadata.tuning)
    query = phrases()[:1]
    masks = {
        number: stored._open(number).embeddings[:].astype(np.float32) @ query[0] < -0.1
        for number in stored.numbers
    }
    selection = Selection(masks)
    assert 0.1 < selection.share < 0.4
    [found], _ = search.nearest(query, 20, selection=selection)
    [truth], _ = search.nearest(query, 20, exact=True, selection=selection)
    assert selection.contains(found).all()
    assert len(np.intersect1d(found, truth[:50])) >= 49


def test_growth_and_lost_recall_make_a_reindex_due():
    tuning = Tuning(SearchParameters(nprobe=8), 4, 0.985, 20, 1000, 1000)
    metadata = VectorMetadata(kind="ivf", tuning=tuning)
    assert reason_to_reindex(metadata, 2000) is None
    assert "trained on 1000" in reason_to_reindex(metadata, 5000)
    low = VectorMetadata(kind="ivf", tuning=replace(tuning, recall=0.9))
    assert "0.900" in reason_to_reindex(low, 1000)


@pytest.mark.slow
def test_growth_causes_tuning(folder):
    before = reindexed(folder, "ivf").tuning
    catalog = Catalog(folder, writable=True)
    add_shard(catalog, 400, 9)
    sync_vectors(catalog, phrases)
    after = read_metadata(catalog).tuning
    assert after.regions > before.regions
    assert after.trained_regions == before.trained_regions


def test_the_command_chooses_a_kind_and_later_builds_keep_it(folder):
    runner = CliRunner()
    done = runner.invoke(app, ["reindex", str(folder), "--vectors", "flat", "--json"])
    assert json.loads(done.stdout)["kind"] == "flat"
    assert read_metadata(Catalog(folder)).requested == "flat"
    with pytest.raises(rg.GroundingError, match="auto, flat, ivf, hnsw"):
        opened(folder).reindex("annoy")
    with pytest.raises(rg.GroundingError, match="recall"):
        opened(folder).reindex("ivf", 1.5)


def test_vectors_distributed_over_several_parts_are_found_as_in_one():
    faiss = import_faiss()
    rows = unit(np.random.default_rng(0).normal(size=(300, DIMENSION)))
    ids = np.arange(300, dtype=np.int64) << 33
    parts = [faiss.IndexFlatIP(DIMENSION) for _ in range(3)]
    index = FaissIndex("flat", combine_parts(parts, DIMENSION))
    for start in (0, 100, 200):
        index.add(rows[start : start + 100], ids[start : start + 100])
    _, found = index.search(phrases(), 5)
    np.testing.assert_array_equal(found, ids[np.argsort(-(phrases() @ rows.T), axis=1)[:, :5]])


def test_the_stored_tuning_keeps_its_keys(folder):
    metadata = reindexed(folder, "hnsw")
    stored = Catalog(folder).setting("vectors")
    assert list(stored) == [
        "generation", "checksum", "kind", "shards", "wanted", "target", "tuning", "file",
    ]  # fmt: skip
    assert stored["tuning"]["effort"] == metadata.tuning.parameters.ef_search
    assert stored["tuning"]["per_image"] == metadata.tuning.refine_factor
    assert read_metadata(Catalog(folder)) == metadata


@pytest.mark.parametrize(
    "damage",
    [{"wanted": "annoy"}, {"target": 2}, {"tuning": {}}, {"tuning": {"effort": 0, "per_image": 1}}],
    ids=["kind", "recall", "no tuning", "no effort"],
)
def test_damaged_metadata_is_reported(folder, damage):
    reindexed(folder, "flat")
    catalog = Catalog(folder, writable=True)
    catalog.set_setting("vectors", catalog.setting("vectors") | damage)
    with pytest.raises(rg.StoreError, match="setting 'vectors'"):
        read_metadata(catalog)


def messages(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.mark.slow
def test_a_lost_vector_index_is_logged_and_rebuilt(folder, caplog):
    reindexed(folder, "ivf", recall=0.5)
    path = vectors_file(folder)
    path.unlink()
    caplog.set_level("INFO", "retrieval_grounding.storage")
    expected = ask(opened(folder), exact=True)
    assert ask(opened(folder)) == expected
    assert {level for level, _ in messages(caplog)} == {"WARNING"}
    assert f"{path.name} cannot be used (No such file" in caplog.text
    caplog.clear()
    sync_vectors(Catalog(folder, writable=True), phrases)
    logged = [message for level, message in messages(caplog) if level == "INFO"]
    assert logged[0] == "rebuilding the vector index: the file is missing or damaged"
    assert logged[1].startswith("tuned the vector index on 40 phrases")
    caplog.clear()
    assert len(ask(opened(folder))) == len(PHRASES)
    assert not messages(caplog)


def test_a_full_gpu_is_logged(folder, caplog, monkeypatch):
    monkeypatch.setattr(gpu, "gpu_numbers", lambda device: [0])
    monkeypatch.setattr(gpu, "_free_memory", lambda numbers: 1000)
    caplog.set_level("INFO", "retrieval_grounding.storage")
    assert copy_to_gpus(shard_vectors(folder), DIMENSION, "cuda") is None
    assert "searching on the CPU" in caplog.text


@pytest.mark.parametrize("own_level", [None, "INFO"])
def test_faiss_stays_out_of_the_log_unless_an_application_asks(own_level):
    program = f"""
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
if {own_level!r}:
    logging.getLogger("faiss.loader").setLevel({own_level!r})
from retrieval_grounding.storage.vectors.faiss_index import import_faiss
assert "faiss" not in sys.modules
import_faiss()
logging.getLogger("application").info("imported")
assert logging.getLogger().level == logging.DEBUG
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "INFO:application:imported" in done.stdout
    assert ("faiss" in done.stdout) == (own_level is not None)


def test_gpus_give_the_same_hits(folder):
    if not gpu_numbers("cuda"):
        pytest.skip("needs an NVIDIA GPU and the package faiss-gpu")
    stored = shard_vectors(folder)
    index = copy_to_gpus(stored, DIMENSION, "cuda")
    search = VectorSearch(stored.numbers, stored._open, index, stored.numbers)
    found, _ = search.nearest(phrases(), 5)
    np.testing.assert_array_equal(found, stored.search(phrases(), 20)[1])


class RoundingIndex(FaissIndex):
    """Searches as GPUs do: queries in float16, so that near ties change places."""

    def search(self, queries, k, parameters=None, selection=None):
        return super().search(queries.astype(np.float16).astype(np.float32), k, parameters)


def on_gpu(stored: ShardVectors, dimension: int, device: str) -> FaissIndex | None:
    """A copy that pretends to be on a GPU."""
    if device == "cpu":
        return None
    index = RoundingIndex("flat", FaissIndex.create("flat", dimension)._index)
    index.rounds = True
    for embeddings, ids in stored.blocks():
        index.add(embeddings, ids)
    return index


def test_near_ties_keep_the_order_of_the_cpu(folder):
    stored = shard_vectors(folder)
    rows, _ = next(stored.blocks())
    # Between two regions there is a phrase that is as near to the one as to the other.
    middle = rows[:40] + rows[1:41] + 1e-4 * rows[2:42]
    queries = (middle / np.linalg.norm(middle, axis=1, keepdims=True)).astype(np.float32)
    search = VectorSearch(
        stored.numbers, stored._open, on_gpu(stored, DIMENSION, "cuda"), stored.numbers
    )
    found, _ = search.nearest(queries, 5)
    np.testing.assert_array_equal(found, stored.search(queries, 20)[1])


def test_a_search_for_more_than_a_gpu_can_select_compares_all(folder):
    stored = shard_vectors(folder)
    index = on_gpu(stored, DIMENSION, "cuda")
    search = VectorSearch(stored.numbers, stored._open, index, stored.numbers)
    expected, _ = search.nearest(phrases(), 5, wider=16)
    index.most = 100
    index.search = None  # as FAISS, which raises an error
    found, _ = search.nearest(phrases(), 5, wider=16)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one[: len(other)], other[: len(one)])


def test_a_snapshot_says_where_vectors_are_searched(folder, monkeypatch):
    reindexed(folder, "flat")
    catalog = Catalog(folder)
    monkeypatch.setattr(snapshot, "copy_to_gpus", on_gpu)
    monkeypatch.setattr(snapshot, "gpu_numbers", lambda device: [0])
    newest = snapshot.SnapshotCache(catalog, RegionStore(catalog), "cuda").latest()
    assert newest.device == "cuda (1 GPU)"
    assert snapshot.SnapshotCache(catalog, RegionStore(catalog), "cpu").latest().device == "cpu"
    with closing(Catalog(folder, writable=True)) as writable:
        writable.set_setting("vectors", None)  # a build was killed before it wrote them
    newest = snapshot.SnapshotCache(catalog, RegionStore(catalog), "cuda").latest()
    assert newest.device == "cuda (1 GPU)" and not newest.unindexed_shards
    with closing(Catalog(folder, writable=True)) as writable:
        shards = sorted(writable.shard_files())
        write_metadata(writable, VectorMetadata(kind="flat", shards=tuple(shards[:-1])))
    newest = snapshot.SnapshotCache(catalog, RegionStore(catalog), "cuda").latest()
    assert newest.device == "cuda (1 GPU), 1 new shard on cpu"


def test_a_few_queries_leave_no_threads_of_faiss_spinning(monkeypatch):
    faiss = import_faiss()
    index = FaissIndex.create("flat", 8)
    random = np.random.default_rng(0)
    index.add(random.normal(size=(50, 8)).astype(np.float32), np.arange(50))
    used = []

    class Watched:
        ntotal = 50

        def search(self, queries, k, params=None):
            used.append(faiss.omp_get_max_threads())
            return np.zeros((len(queries), k), np.float32), np.zeros((len(queries), k), np.int64)

    monkeypatch.setattr(index, "_index", Watched())
    usual = faiss.omp_get_max_threads()
    for count in (1, 4, 64):
        index.search(random.normal(size=(count, 8)).astype(np.float32), 3)
        assert faiss.omp_get_max_threads() == usual
    assert used == [1, 1, usual]
