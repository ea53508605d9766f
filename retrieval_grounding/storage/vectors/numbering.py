"""Consecutive numbers for regions, so that a selection of them fits into a bitmap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..region_ids import region_ids, split_region_ids
from .selection import Selection

__all__ = ["Numbering"]


Ids = npt.NDArray[np.int64]


class Numbering:
    """Numbers the regions of some shards from 0, in the order of shards and rows.

    Parameters
    ----------
    shards, sizes : int64 arrays
        Shard numbers, ascending, and how many rows each has.

    Examples
    --------
    >>> numbering = Numbering(np.array([3, 7]), np.array([2, 4]))
    >>> numbering.numbers(region_ids(7, np.array([1]))).tolist()
    [3]
    >>> split_region_ids(numbering.ids(np.array([3])))
    (array([7]), array([1]))
    """

    def __init__(self, shards: Ids, sizes: Ids) -> None:
        self._shards = shards
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @classmethod
    def of(cls, ids: Sequence[Ids]) -> Numbering | None:
        """Return a numbering of all ids; None if it would have gaps, as an index never has."""
        ordered = np.sort(np.concatenate([np.zeros(0, np.int64), *ids]))
        shards, rows = split_region_ids(ordered)
        last = np.flatnonzero(np.diff(shards, append=-1))
        numbering = cls(shards[last], rows[last] + 1)
        return numbering if len(numbering) == len(ordered) and (ordered >= 0).all() else None

    def numbers(self, ids: Ids) -> Ids:
        """Return the numbers of regions."""
        shards, rows = split_region_ids(ids)
        numbers: Ids = self._starts[np.searchsorted(self._shards, shards)] + rows
        return numbers

    def ids(self, numbers: Ids) -> Ids:
        """Return the ids of regions, and -1 for what FAISS has filled up with -1."""
        places = np.searchsorted(self._starts, numbers, side="right") - 1
        known = (numbers >= 0) & (numbers < len(self))
        places = np.where(known, places, 0)
        found = region_ids(self._shards[places], numbers - self._starts[places])
        return np.where(known, found, -1)

    def bitmap(self, selection: Selection) -> npt.NDArray[np.uint8]:
        """Return which regions are selected, one bit for each, the lowest first."""
        mask = np.zeros(len(self), bool)
        for place, shard in enumerate(self._shards.tolist()):
            if (selected := selection.masks.get(shard)) is not None:
                start, stop = self._starts[place : place + 2].tolist()
                mask[start:stop] = selected[: stop - start]
        return np.packbits(mask, bitorder="little")
