"""Exact search over the embeddings in the shards, without a copy of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..region_ids import region_ids, split_region_ids
from ..shards import ShardReader
from .selection import Selection

if TYPE_CHECKING:
    import torch

__all__ = ["ShardVectors", "top_k"]


_BLOCK_ROWS = 1 << 13
_QUERIES_PER_GATHER = 64

_SHARDS_IN_TABLE = 1 << 10
"""Where there are more, a table of all their images would take long to make."""

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class ShardVectors:
    """The rows of some shards as an exact vector index that is never out of date.

    PyTorch converts to float32, because it is 20 times as fast as NumPy.

    Parameters
    ----------
    numbers : collection of int
        The shards.
    open_shard : callable
        Returns a shard's reader by its number.
    """

    def __init__(self, numbers: Collection[int], open_shard: Callable[[int], ShardReader]) -> None:
        self.numbers = frozenset(numbers)
        self._open = open_shard

    def __len__(self) -> int:
        return sum(len(self._open(number).embeddings) for number in self.numbers)

    def blocks(self) -> Iterator[tuple[Floats, Ids]]:
        """Yield all embeddings and their ids in blocks of some thousands, ids ascending."""
        for number in sorted(self.numbers):
            stored = self._open(number).embeddings
            for start in range(0, len(stored), _BLOCK_ROWS):
                stop = min(start + _BLOCK_ROWS, len(stored))
                rows = np.arange(start, stop, dtype=np.int64)
                yield _float32(stored[start:stop]), region_ids(number, rows)

    def search(
        self, queries: Floats, k: int, selection: Selection | None = None
    ) -> tuple[Floats, Ids]:
        """Return the `k` best region ids for each query; see :class:`VectorIndex`.

        Every row is read, or every row of `selection`. Equal scores are ordered by id.

        Raises
        ------
        StoreError
            If a shard is missing or damaged, or embeddings are not finite.
        """
        import torch

        matrix = torch.from_numpy(np.ascontiguousarray(queries))
        best = [_TopK(k) for _ in queries]
        blocks = self.blocks() if selection is None else self._selected_blocks(selection)
        for block, ids in blocks:
            scores = (matrix @ torch.from_numpy(block).T).numpy()
            if not np.isfinite(scores).all():
                shard = int(split_region_ids(ids[:1])[0][0])
                raise self._open(shard).damaged("embeddings in it are not finite")
            for row, top in enumerate(best):
                top.offer(scores[row], ids)
        found = [top.ranked() for top in best]
        width = min(k, max((len(ids) for _, ids in found), default=0))
        shape = (len(found), width)
        return (
            np.array([scores[:width] for scores, _ in found], np.float32).reshape(shape),
            np.array([ids[:width] for _, ids in found], np.int64).reshape(shape),
        )

    def _selected_blocks(self, selection: Selection) -> Iterator[tuple[Floats, Ids]]:
        """Yield the selected embeddings and their ids in blocks, ids ascending."""
        ids = selection.ids
        for start in range(0, len(ids), _BLOCK_ROWS):
            rows, known = self._gather(ids[start : start + _BLOCK_ROWS])
            if known.all():
                yield rows.numpy(), ids[start : start + _BLOCK_ROWS]
            elif known.any():  # a part of the shards is searched elsewhere
                yield rows.numpy()[known], ids[start : start + _BLOCK_ROWS][known]

    def score(self, queries: Floats, ids: Ids) -> Floats:
        """Return the exact scores of regions, a different set of regions for each query.

        Parameters
        ----------
        queries : float32 array of shape (p, d)
            Unit length.
        ids : int64 array of shape (p, k)
            Region ids; unknown ones, such as -1, score minus infinity.

        Returns
        -------
        float32 array of shape (p, k)
        """
        scores = np.full(ids.shape, -np.inf, np.float32)
        for start in range(0, len(ids), _QUERIES_PER_GATHER):
            stop = start + _QUERIES_PER_GATHER
            scores[start:stop] = self._score_together(queries[start:stop], ids[start:stop])
        return scores

    def _score_together(self, queries: Floats, ids: Ids) -> Floats:
        """Return what :meth:`score` does, reading each region once for all queries."""
        import torch

        scores = np.full(ids.shape, -np.inf, np.float32)
        unique, inverse = np.unique(ids, return_inverse=True)
        inverse = inverse.reshape(ids.shape)
        rows, known = self._gather(unique)
        if not known.any():
            return scores
        for number, columns in enumerate(inverse):
            query = torch.from_numpy(np.ascontiguousarray(queries[number]))
            if len(ids) == 1:  # all rows are this query's, so none need be copied
                found = (rows @ query).numpy()[columns]
            else:
                found = (rows[torch.from_numpy(columns)] @ query).numpy()
            scores[number] = np.where(known[columns], found, -np.inf)
        return scores

    def images(self, ids: Ids) -> npt.NDArray[np.int64]:
        """Return shard and image row (n, 2) of regions; -1 for regions of other shards."""
        if len(self.numbers) <= _SHARDS_IN_TABLE:
            return self._image_table.look_up(ids)
        shards, rows = split_region_ids(ids)
        keys = np.full((len(ids), 2), -1, np.int64)
        for number, chosen in _by_shard(shards):
            if number in self.numbers:
                keys[chosen, 0] = number
                keys[chosen, 1] = self._open(number).image_rows(rows[chosen])
        return keys

    @cached_property
    def _image_table(self) -> _ImageTable:
        return _ImageTable({number: self._open(number).image_offsets for number in self.numbers})

    def sample(self, count: int, seed: int = 0) -> Floats:
        """Return `count` random rows of all shards, or all if there are fewer."""
        sizes = {number: len(self._open(number).embeddings) for number in sorted(self.numbers)}
        total = sum(sizes.values())
        drawn = np.random.default_rng(seed).permutation(total)[:count]
        drawn.sort()
        parts, first = [], 0
        for number, size in sizes.items():
            start, stop = np.searchsorted(drawn, [first, first + size])
            if stop > start:
                parts.append(_float32(self._open(number).embeddings[drawn[start:stop] - first]))
            first += size
        return np.concatenate(parts)

    def _gather(self, ids: Ids) -> tuple[torch.Tensor, npt.NDArray[np.bool_]]:
        """Return the rows of ascending ids, and which of the ids exist."""
        import torch

        shards, rows = split_region_ids(ids)
        known = np.zeros(len(ids), bool)
        gathered: npt.NDArray[np.float16] | None = None
        for number, chosen in _by_shard(shards):
            if number not in self.numbers:
                continue
            stored = self._open(number).embeddings
            inside = rows[chosen]
            if inside[-1] >= len(stored):
                continue
            if gathered is None:
                gathered = np.zeros((len(ids), stored.shape[1]), np.float16)
            # All are inside; NumPy would copy twice to leave `out` alone if one were not.
            stored.take(inside, axis=0, out=gathered[chosen], mode="clip")
            known[chosen] = True
        if gathered is None:
            return torch.zeros(len(ids), 1), known
        return torch.from_numpy(gathered).float(), known


class _ImageTable:
    """Where the images of some shards begin, as one sorted array: 8 bytes an image."""

    def __init__(self, offsets: Mapping[int, Ids]) -> None:
        numbers = sorted(offsets)
        parts = [region_ids(number, offsets[number][:-1]) for number in numbers]
        self._numbers = np.array([*numbers, np.iinfo(np.int64).max], np.int64)
        self._regions = np.array([*(offsets[number][-1] for number in numbers), 0], np.int64)
        counts = [len(part) for part in parts]
        self._first_images = np.cumsum([0, *counts])
        self._first_regions = np.concatenate([np.zeros(0, np.int64), *parts])

    def look_up(self, ids: Ids) -> npt.NDArray[np.int64]:
        """Return shard and image row (n, 2) of regions; -1 for regions of other shards."""
        shards, rows = split_region_ids(ids)
        places = np.searchsorted(self._numbers, shards)
        known = (self._numbers[places] == shards) & (rows < self._regions[places])
        images = np.searchsorted(self._first_regions, ids, side="right") - 1
        found = np.stack([shards, images - self._first_images[places]], axis=1)
        found[~known] = -1
        return found


class _TopK:
    """Collects the k best of many scores; sorts only when four times as many have come."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._floor = -np.inf
        self._scores: list[Floats] = []
        self._ids: list[Ids] = []
        self._pending = 0

    def offer(self, scores: Floats, ids: Ids) -> None:
        above = np.flatnonzero(scores >= self._floor)
        if len(above):
            self._scores.append(scores[above])
            self._ids.append(ids[above])
            self._pending += len(above)
            if self._pending > 4 * self._k:
                self._keep(*self.ranked())

    def ranked(self) -> tuple[Floats, Ids]:
        """Return scores and ids, best first; equal scores are ordered by id."""
        scores = np.concatenate([np.zeros(0, np.float32), *self._scores])
        ids = np.concatenate([np.zeros(0, np.int64), *self._ids])
        return top_k(scores, ids, self._k)

    def _keep(self, scores: Floats, ids: Ids) -> None:
        self._scores, self._ids, self._pending = [scores], [ids], len(ids)
        self._floor = float(scores[-1])


def top_k(scores: Floats, ids: Ids, k: int) -> tuple[Floats, Ids]:
    """Return the `k` best scores and their ids, best first; equal scores are ordered by id."""
    order = np.lexsort((ids, -scores))[:k]
    return scores[order], ids[order]


def _by_shard(shards: npt.NDArray[np.int64]) -> Iterator[tuple[int, slice | Ids]]:
    """Yield each shard number with its positions in `shards`: a slice if `shards` is sorted."""
    if not len(shards):
        return
    is_sorted = bool((shards[1:] >= shards[:-1]).all())
    order = None if is_sorted else np.argsort(shards, kind="stable")
    ordered = shards if order is None else shards[order]
    edges = (np.flatnonzero(np.diff(ordered)) + 1).tolist()
    for start, stop in zip([0, *edges], [*edges, len(shards)], strict=True):
        positions = slice(start, stop) if order is None else order[start:stop]
        yield int(ordered[start]), positions


def _float32(rows: npt.NDArray[np.float16]) -> Floats:
    import torch

    # Copied first, because PyTorch warns about read-only arrays such as mapped ones.
    converted: Floats = torch.from_numpy(np.array(rows)).float().numpy()
    return converted
