"""Search over one state of an index: its vector index, and the shards that it does not cover."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ...core.errors import StoreError
from ..shards import ShardReader
from .exact import ShardVectors, top_k
from .faiss_index import FaissIndex
from .metadata import Tuning
from .search_parameters import SearchParameters
from .selection import Selection
from .tuning import CANDIDATES

__all__ = ["VectorSearch"]


_FLAT_REGIONS_PER_IMAGE = 4
_FEW_REGIONS = 1 << 13
"""Comparing this many takes no longer than a search in inverted lists."""

_MIN_SHARE_OF_A_GRAPH = 0.1
_WIDENING = 0.5
_SPARE = 32
_EXACT_REGIONS_PER_IMAGE = 16  # returning more regions costs less than searching again


class VectorSearch:
    """Finds the regions nearest to phrases, among all shards of one state of the catalog.

    What an approximate index finds is re-scored with the exact vectors. Shards that the index does
    not cover, because a build is in progress or the file is damaged, are searched exactly.

    Parameters
    ----------
    numbers : collection of int
        The catalog's shards.
    open_shard : callable
        Returns a shard's reader by its number.
    index : FaissIndex or None
        The vector index; it may hold shards that the catalog no longer has.
    covered : collection of int
        The shards in it.
    tuning : Tuning or None
        For an approximate index.
    """

    def __init__(
        self,
        numbers: Collection[int],
        open_shard: Callable[[int], ShardReader],
        index: FaissIndex | None = None,
        covered: Collection[int] = (),
        tuning: Tuning | None = None,
    ) -> None:
        self.shard_vectors = ShardVectors(numbers, open_shard)
        self._unindexed = ShardVectors(self.shard_vectors.numbers.difference(covered), open_shard)
        self._index = index
        self._tuning = tuning
        self._per_image = _FLAT_REGIONS_PER_IMAGE if tuning is None else tuning.refine_factor

    def nearest(
        self,
        queries: npt.NDArray[np.float32],
        images: int,
        *,
        wider: int = 1,
        exact: bool = False,
        selection: Selection | None = None,
    ) -> tuple[list[npt.NDArray[np.int64]], bool]:
        """Return the ids of the nearest regions, best first, for each query.

        Parameters
        ----------
        queries : float32 array of shape (p, d)
            Unit length.
        images : int
            Different images that the regions should cover.
        wider : int
            Factor by which to search further than usual.
        exact : bool
            Compare every region, whatever the kind of the index.
        selection : Selection, optional
            Find only regions of it.

        Returns
        -------
        list of int64 arrays, bool
            The ids, and whether they include every region.

        Raises
        ------
        StoreError
            If a shard is missing or damaged, or vectors are not finite.
        """
        index, k = self._index, self._per_image * images * wider
        beyond = index is not None and k + _SPARE > (index.most or math.inf)
        if exact or index is None or beyond or self._is_small(selection):
            return self._compare_all(queries, images * wider, selection)
        # Tuned for the usual number of images; finding more takes a wider search.
        factor = wider * -(-images // CANDIDATES)
        scores, ids, complete = self._search_index(index, queries, k, factor, selection)
        if (
            selection is not None
            and index.kind == "hnsw"
            and np.isfinite(scores).sum(axis=1).min() < min(k, len(selection))
        ):
            # The way through a graph may end before it comes to what is selected.
            return self._compare_all(queries, images * wider, selection)
        if self._unindexed.numbers:
            more_scores, more_ids = self._unindexed.search(queries, k, selection)
            scores = np.concatenate([scores, more_scores], axis=1)
            ids = np.concatenate([ids, more_ids], axis=1)
            complete &= more_ids.shape[1] < k
        nearest = []
        for query_scores, query_ids in zip(scores, ids, strict=True):
            known = np.isfinite(query_scores)
            nearest.append(top_k(query_scores[known], query_ids[known], k)[1])
        return nearest, complete

    def _compare_all(
        self, queries: npt.NDArray[np.float32], images: int, selection: Selection | None
    ) -> tuple[list[npt.NDArray[np.int64]], bool]:
        """Return what :meth:`nearest` does, after comparing every region."""
        k = _EXACT_REGIONS_PER_IMAGE * images
        _, ids = self.shard_vectors.search(queries, k, selection)
        return list(ids), ids.shape[1] < k

    def _is_small(self, selection: Selection | None) -> bool:
        """Return whether comparing every selected region is better than asking the index."""
        if selection is None or self._index is None:
            return False
        if not self._index.selects:
            return True
        # A graph leads nowhere if most of its nodes are left out.
        narrow = self._index.kind == "hnsw" and selection.share < _MIN_SHARE_OF_A_GRAPH
        return narrow or len(selection) <= _FEW_REGIONS

    def _search_index(
        self,
        index: FaissIndex,
        queries: npt.NDArray[np.float32],
        k: int,
        factor: float,
        selection: Selection | None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], bool]:
        """Return the scores and ids of k regions per query, and whether these are all.

        An approximate index is searched `factor` times as far as it was tuned.
        """
        parameters = SearchParameters()
        if self._tuning is not None:
            if selection is not None:  # the nearest regions are in more of the lists
                factor /= selection.share**_WIDENING
            parameters = self._tuning.parameters.scaled(factor)
            if selection is not None and index.kind == "ivf":
                usual = len(selection) * min(parameters.nprobe / index.lists, 1)
                wanted = max(usual, min(k, len(selection)))
                lists = index.lists_with(queries, selection, wanted)
                parameters = replace(parameters, nprobe=max(parameters.nprobe, lists))
        # Near ties at the end of the list may have changed places where scores are rounded.
        spare = _SPARE if selection is None and index.kind == "flat" and index.rounds else 0
        scores, ids = index.search(queries, k + spare, parameters, selection)
        sound = np.isfinite(scores) if selection is None else ~np.isnan(scores)
        if index.kind == "flat" and not sound.all():
            raise StoreError(
                "vectors of the vector index are not finite; run 'retrieval-grounding verify INDEX "
                "--repair'"
            )
        if index.rounds:
            scores = self.shard_vectors.score(queries, np.where(np.isfinite(scores), ids, -1))
        all_lists = index.kind != "ivf" or parameters.nprobe >= index.lists
        available = len(index) if selection is None else len(selection)
        return scores, ids, k >= available and all_lists
