"""Selections restrict a search to some regions, however many, and lose none of the nearest."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_grounding.storage.region_ids import region_ids
from retrieval_grounding.storage.vectors import search as vector_search
from retrieval_grounding.storage.vectors.faiss_index import FaissIndex
from retrieval_grounding.storage.vectors.metadata import Tuning
from retrieval_grounding.storage.vectors.numbering import Numbering
from retrieval_grounding.storage.vectors.search import VectorSearch
from retrieval_grounding.storage.vectors.search_parameters import SearchParameters
from retrieval_grounding.storage.vectors.selection import Selection

SHARDS, ROWS, DIMENSION = 20, 2000, 16


@pytest.fixture(scope="module")
def stored() -> tuple[np.ndarray, np.ndarray, FaissIndex]:
    rows = np.random.default_rng(0).normal(size=(SHARDS * ROWS, DIMENSION)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = np.concatenate([region_ids(n, np.arange(ROWS)) for n in range(1, SHARDS + 1)])
    index = FaissIndex.create("flat", DIMENSION)
    index.add(rows, ids)
    index.prepare_selections()
    return rows, ids, index


def selection_of(mask: np.ndarray) -> Selection:
    return Selection({n + 1: mask[n * ROWS : (n + 1) * ROWS] for n in range(SHARDS)})


@pytest.mark.parametrize("share", [0.45, 0.9, 1.0])
@pytest.mark.parametrize("wider", [1, 4])
def test_the_nearest_selected_regions_are_found(stored, share, wider):
    rows, ids, index = stored
    mask = np.random.default_rng(1).random(len(ids)) < share
    search = VectorSearch(range(1, SHARDS + 1), lambda _: None, index, range(1, SHARDS + 1))
    [found], _ = search.nearest(rows[:1], 50, wider=wider, selection=selection_of(mask))
    scores = np.where(mask, rows @ rows[0], -np.inf)
    nearest = ids[np.argsort(-scores)[: len(found)]]
    assert len(found) >= 150 * wider
    # float16 changes the order of a few neighbors
    assert len(set(found.tolist()) & set(nearest.tolist())) >= 0.98 * len(found)
    assert selection_of(mask).contains(found).all()


def test_regions_far_from_a_phrase_are_found(stored):
    """The filter leaves out everything near the phrase, as a folder of cats does for 'a dog'."""
    rows, _, index = stored
    mask = rows @ rows[0] < 0.1
    search = VectorSearch(range(1, SHARDS + 1), lambda _: None, index, range(1, SHARDS + 1))
    [found], complete = search.nearest(rows[:1], 50, selection=selection_of(mask))
    assert len(found) == 200
    assert not complete
    assert selection_of(mask).contains(found).all()
    [found], _ = search.nearest(rows[:1], 50, wider=4, selection=selection_of(mask))
    assert len(found) == 800
    assert selection_of(mask).contains(found).all()


def test_unknown_regions_are_not_selected():
    selection = Selection({3: np.array([True, False])})
    ids = np.concatenate([region_ids(3, np.arange(3)), region_ids(2, np.arange(1)), [-1]])
    assert selection.contains(ids).tolist() == [True, False, False, False, False]
    assert not Selection({}).contains(ids).any()


def test_numbers_stand_for_regions_of_shards_with_gaps_between_them():
    sizes = {2: 5, 3: 1, 9: 4000}
    ids = np.concatenate([region_ids(n, np.arange(size)) for n, size in sizes.items()])
    numbering = Numbering.of([ids[::2], ids[1::2]])
    assert numbering is not None
    assert numbering.numbers(ids).tolist() == list(range(len(ids)))
    assert (numbering.ids(np.arange(len(ids))) == ids).all()
    assert numbering.ids(np.array([[-1, len(ids)]])).tolist() == [[-1, -1]]
    mask = np.arange(4000) % 3 == 0
    bits = numbering.bitmap(Selection({1: np.ones(9, bool), 9: mask}))
    assert np.unpackbits(bits, bitorder="little")[: len(ids)].tolist() == [0] * 6 + mask.tolist()


@pytest.mark.parametrize("ids", [[-1, 0], [0, 2], [(1 << 32) + 1]])
def test_ids_with_gaps_are_left_as_they_are(ids):
    index = FaissIndex.create("flat", DIMENSION)
    index.add(np.eye(len(ids), DIMENSION, dtype=np.float32), np.array(ids, np.int64))
    index.prepare_selections()
    assert not index.selects
    assert index.ids.tolist() == ids


@pytest.fixture(scope="module")
def clustered() -> tuple[np.ndarray, np.ndarray, np.ndarray, FaissIndex]:
    """Regions of 32 kinds, in inverted lists; each kind is in a few of them."""
    random = np.random.default_rng(3)
    centers = random.normal(size=(32, DIMENSION))
    kinds = random.integers(32, size=SHARDS * ROWS)
    rows = centers[kinds] + 0.3 * random.normal(size=(len(kinds), DIMENSION))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    ids = np.concatenate([region_ids(n, np.arange(ROWS)) for n in range(1, SHARDS + 1)])
    index = FaissIndex.create("ivf", DIMENSION, lists=64)
    index.train(rows[:8000])
    index.add(rows, ids)
    index.prepare_selections()
    index.rounds = False  # there are no shards to score regions again
    return rows, kinds, ids, index


def test_regions_of_a_kind_are_found_by_phrases_about_another(clustered, monkeypatch):
    rows, kinds, ids, index = clustered
    monkeypatch.setattr(vector_search, "_FEW_REGIONS", 0)  # as in a large index
    tuning = Tuning(SearchParameters(nprobe=3), 4, None, 0, len(ids), len(ids))
    shards = range(1, SHARDS + 1)
    search = VectorSearch(shards, lambda _: None, index, shards, tuning)
    for kind in range(4):
        mask = kinds == kind
        others = rows[[np.flatnonzero(kinds == other)[0] for other in range(4, 12)]]
        found, complete = search.nearest(others, 10, selection=selection_of(mask))
        assert not complete
        for own in found:  # before, none was in the lists that were visited
            assert len(own) == 40
            assert selection_of(mask).contains(own).all()


def test_lists_are_visited_until_they_have_enough_of_a_selection(clustered):
    rows, kinds, _, index = clustered
    near, far = rows[kinds == 5][:1], rows[kinds == 9][:1]
    selection = selection_of(kinds == 5)
    everything = selection_of(np.ones(len(kinds), bool))
    assert index.lists_with(near, selection, 10) == 1
    assert index.lists_with(far, selection, 10) > 1
    both = index.lists_with(np.concatenate([near, far]), selection, 10)
    assert both == index.lists_with(far, selection, 10)
    assert index.lists_with(far, selection, len(selection)) <= index.lists
    assert index.lists_with(near, everything, len(everything)) == index.lists
    assert index.lists_with(near, selection_of(kinds < 0), 0) == 1


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_an_index_that_selects_finds_what_it_found_before(stored, kind):
    rows, ids, _ = stored
    index = FaissIndex.create(kind, DIMENSION, lists=8)
    index.train(rows[:4000])
    index.add(rows[:4000], ids[:4000])
    everything = SearchParameters(nprobe=8, ef_search=400)
    before = index.search(rows[:5], 20, everything)
    index.prepare_selections()
    assert index.selects
    assert np.array_equal(index.search(rows[:5], 20, everything), before)
    assert sorted(index.ids.tolist()) == ids[:4000].tolist()
    chosen = Selection({1: np.arange(ROWS) % 2 == 0})  # nothing of shard 2
    _, found = index.search(rows[:5], 20, everything, chosen)
    assert chosen.contains(found.ravel()).all()
