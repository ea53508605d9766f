"""Selections: the regions that a search may find."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..region_ids import region_ids, split_region_ids

__all__ = ["Selection"]


class Selection:
    """Some of the regions of an index, in one state of the catalog; never changed.

    Parameters
    ----------
    masks : mapping of int to bool array
        For every shard: which of its regions are selected.

    Examples
    --------
    >>> selection = Selection({1: np.array([True, False, True, False])})
    >>> len(selection), selection.share, selection.contains(selection.ids).all()
    (2, 0.5, np.True_)
    """

    def __init__(self, masks: Mapping[int, npt.NDArray[np.bool_]]) -> None:
        self.masks = dict(masks)
        self._count = sum(int(mask.sum()) for mask in self.masks.values())
        self._total = sum(len(mask) for mask in self.masks.values())

    def __len__(self) -> int:
        """Return the number of regions."""
        return self._count

    @property
    def share(self) -> float:
        """The share of all regions."""
        return self._count / self._total if self._total else 0.0

    @cached_property
    def ids(self) -> npt.NDArray[np.int64]:
        """Their ids, ascending."""
        parts = [
            region_ids(number, np.flatnonzero(self.masks[number])) for number in sorted(self.masks)
        ]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    @cached_property
    def faiss_cache(self) -> dict[str, Any]:
        """What FAISS makes of the selection, kept as long as the selection."""
        return {}

    def contains(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which regions are selected; unknown ids are not."""
        numbers, starts, mask = self._flat
        shards, rows = split_region_ids(ids)
        places = np.searchsorted(numbers, shards).clip(max=len(numbers) - 1)
        known = (numbers[places] == shards) & (rows < starts[places + 1] - starts[places])
        found: npt.NDArray[np.bool_] = known & mask[np.where(known, starts[places] + rows, 0)]
        return found

    @cached_property
    def _flat(
        self,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The shards, where their regions begin, and all masks one after the other."""
        numbers = sorted(self.masks)
        sizes = [len(self.masks[number]) for number in numbers]
        masks = [self.masks[number] for number in numbers]
        return (
            np.array([*numbers, np.iinfo(np.int64).max], np.int64),
            np.concatenate([[0], np.cumsum(sizes), [sum(sizes)]]).astype(np.int64),
            np.concatenate([*masks, np.zeros(1, bool)]),
        )
