"""Selections restrict a search to some regions, however many, and lose none of the nearest."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_grounding.storage.region_ids import region_ids
from retrieval_grounding.storage.vectors.faiss_index import FaissIndex
from retrieval_grounding.storage.vectors.search import VectorSearch
from retrieval_grounding.storage.vectors.selection import Selection

SHARDS, ROWS, DIMENSION = 20, 2000, 16


@pytest.fixture(scope="module")
def stored() -> tuple[np.ndarray, np.ndarray, FaissIndex]:
    rows = np.random.default_rng(0).normal(size=(SHARDS * ROWS, DIMENSION)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = np.concatenate([region_ids(n, np.arange(ROWS)) for n in range(1, SHARDS + 1)])
    index = FaissIndex.create("flat", DIMENSION)
    index.add(rows, ids)
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


def test_regions_far_from_a_phrase_are_found_by_a_wider_search(stored):
    """The filter leaves out everything near the phrase, as a folder of cats does for 'a dog'."""
    rows, _, index = stored
    mask = rows @ rows[0] < 0.1
    search = VectorSearch(range(1, SHARDS + 1), lambda _: None, index, range(1, SHARDS + 1))
    [few], complete = search.nearest(rows[:1], 50, selection=selection_of(mask))
    assert len(few) < 50
    assert not complete
    [found], _ = search.nearest(rows[:1], 50, wider=4, selection=selection_of(mask))
    assert len(found) == 800
    assert selection_of(mask).contains(found).all()


def test_unknown_regions_are_not_selected():
    selection = Selection({3: np.array([True, False])})
    ids = np.concatenate([region_ids(3, np.arange(3)), region_ids(2, np.arange(1)), [-1]])
    assert selection.contains(ids).tolist() == [True, False, False, False, False]
    assert not Selection({}).contains(ids).any()
