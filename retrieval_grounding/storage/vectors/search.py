"""One state of an index, searched: its vector index, and what that does not have yet."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt

from ..shards import ShardReader
from .exact import StoredVectors, best_first
from .faiss_index import FaissIndex
from .metadata import Tuning
from .tuning import CANDIDATES

__all__ = ["VectorSearch"]


_EXACT_PER_IMAGE = 4
_SCANNED_PER_IMAGE = 16  # to scan again costs more than to keep more


class VectorSearch:
    """Finds the regions nearest to phrases, among all shards of one state of the catalog.

    What the vector index finds is re-scored from the shards unless its scores are exact. Shards
    that it does not have yet, since a build goes on or the file is damaged, are searched directly.

    Parameters
    ----------
    numbers : collection of int
        The catalog's shards.
    open_shard : callable
        Returns a shard's reader.
    index : FaissIndex or None
        What ``vectors.faiss`` holds; it may have shards that are gone.
    covered : collection of int
        The shards in it.
    tuning : Tuning or None
        Of an approximate index.
    """

    def __init__(
        self,
        numbers: Collection[int],
        open_shard: Callable[[int], ShardReader],
        index: FaissIndex | None = None,
        covered: Collection[int] = (),
        tuning: Tuning | None = None,
    ) -> None:
        self.stored = StoredVectors(numbers, open_shard)
        self._index = index
        self._loose = StoredVectors(self.stored.numbers.difference(covered), open_shard)
        self._tuning = tuning
        self._approximate = index is not None and index.kind != "flat"

    def nearest(
        self,
        queries: npt.NDArray[np.float32],
        images: int,
        *,
        wider: int = 1,
        exact: bool = False,
    ) -> tuple[list[npt.NDArray[np.int64]], bool]:
        """Return the ids of the nearest regions, best first, for each query.

        Parameters
        ----------
        queries : float32 array of shape (p, d)
            Unit length.
        images : int
            So many different images are hoped for.
        wider : int
            Look so much further than usual.
        exact : bool
            Compare every region, whatever the kind of the index.

        Returns
        -------
        list of int64 arrays, bool
            And whether these are all regions there are.
        """
        index = self._index
        if exact or index is None:
            k = _SCANNED_PER_IMAGE * images * wider
            _, ids = self.stored.search(queries, k)
            return list(ids), ids.shape[1] < k
        effort, per_image = 1, _EXACT_PER_IMAGE
        if self._tuning is not None:
            # Tuned for the usual number of images: more lie further off.
            effort = self._tuning.effort * wider * -(-images // CANDIDATES)
            per_image = self._tuning.per_image
        k = per_image * images * wider
        scores, ids = index.search(queries, k, effort)
        if self._approximate:
            scores = self.stored.score(queries, ids)
        complete = k >= len(index) and (not self._approximate or effort >= index.lists)
        if self._loose.numbers:
            more, ids_more = self._loose.search(queries, k)
            scores = np.concatenate([scores, more], axis=1)
            ids = np.concatenate([ids, ids_more], axis=1)
            complete &= ids_more.shape[1] < k
        found = []
        for own, named in zip(scores, ids, strict=True):
            known = np.isfinite(own)
            found.append(best_first(own[known], named[known], k)[1])
        return found, complete
