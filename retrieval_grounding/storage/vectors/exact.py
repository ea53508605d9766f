"""The embeddings in the shards: searched exactly, re-scored, and sampled, without a copy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..region_ids import region_ids, split_region_ids
from ..shards import ShardReader

__all__ = ["StoredVectors", "best_first"]


_BLOCK = 1 << 13
_PHRASES = 64

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class StoredVectors:
    """The rows of some shards as a vector index: exact, always in step with the shards.

    Conversion to float32 is PyTorch's, 20 times as fast as NumPy's.

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
        """Yield all embeddings and their ids, some thousands at a time, ids ascending."""
        for number in sorted(self.numbers):
            stored = self._open(number).embeddings
            for start in range(0, len(stored), _BLOCK):
                rows = np.arange(start, min(start + _BLOCK, len(stored)), dtype=np.int64)
                yield _float32(stored[start : start + _BLOCK]), region_ids(number, rows)

    def search(self, queries: Floats, k: int) -> tuple[Floats, Ids]:
        """Return the `k` best region ids for each query; see :class:`VectorIndex`.

        Every row is read. Equal scores are in the order of ids.
        """
        said = torch.from_numpy(np.ascontiguousarray(queries))
        best = [_Best(k) for _ in queries]
        for block, ids in self.blocks():
            scores = (said @ torch.from_numpy(block).T).numpy()
            for row, kept in enumerate(best):
                kept.offer(scores[row], ids)
        found = [kept.ranked() for kept in best]
        width = min(k, max((len(ids) for _, ids in found), default=0))
        shape = (len(found), width)
        return (
            np.array([scores[:width] for scores, _ in found], np.float32).reshape(shape),
            np.array([ids[:width] for _, ids in found], np.int64).reshape(shape),
        )

    def score(self, queries: Floats, ids: Ids) -> Floats:
        """Return the exact scores of regions, each query's own.

        Parameters
        ----------
        queries : float32 array of shape (p, d)
            Unit length.
        ids : int64 array of shape (p, k)
            Region ids; those of other shards, and -1, score minus infinity.
        """
        scores = np.full(ids.shape, -np.inf, np.float32)
        for start in range(0, len(ids), _PHRASES):
            part = ids[start : start + _PHRASES]
            unique, place = np.unique(part, return_inverse=True)
            rows, known = self._gather(unique)
            if not known.any():
                continue
            place = place.reshape(part.shape)
            for number, (wanted, query) in enumerate(zip(place, queries[start:], strict=False)):
                own = rows if len(part) == 1 else rows[torch.from_numpy(wanted)]
                found = (own @ torch.from_numpy(np.ascontiguousarray(query))).numpy()
                found = found[wanted] if len(part) == 1 else found
                scores[start + number] = np.where(known[wanted], found, -np.inf)
        return scores

    def images(self, ids: Ids) -> npt.NDArray[np.int64]:
        """Return shard and image row (n, 2) of regions; -1 for those of other shards."""
        shards, rows = split_region_ids(ids)
        keys = np.full((len(ids), 2), -1, np.int64)
        for number, chosen in _by_shard(shards):
            if number in self.numbers:
                keys[chosen, 0] = number
                keys[chosen, 1] = self._open(number).image_rows(rows[chosen])
        return keys

    def sample(self, count: int, seed: int = 0) -> Floats:
        """Return `count` rows drawn from all shards alike, or all if there are fewer."""
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
        """Return the rows of ascending ids, and which of them there are."""
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
            np.take(stored, inside, axis=0, out=gathered[chosen])
            known[chosen] = True
        if gathered is None:
            return torch.zeros(len(ids), 1), known
        return torch.from_numpy(gathered).float(), known


class _Best:
    """The k best of what is offered, gathered with few comparisons."""

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
        """Return scores and ids, best first, equal scores in the order of ids."""
        scores = np.concatenate([np.zeros(0, np.float32), *self._scores])
        ids = np.concatenate([np.zeros(0, np.int64), *self._ids])
        return best_first(scores, ids, self._k)

    def _keep(self, scores: Floats, ids: Ids) -> None:
        self._scores, self._ids, self._pending = [scores], [ids], len(ids)
        self._floor = float(scores[-1])


def best_first(scores: Floats, ids: Ids, k: int) -> tuple[Floats, Ids]:
    """Return the `k` best scores and their ids; equal scores are in the order of ids."""
    order = np.lexsort((ids, -scores))[:k]
    return scores[order], ids[order]


def _by_shard(shards: npt.NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
    """Yield each shard's number and where it stands; a slice where it stands in a row."""
    if (shards[1:] < shards[:-1]).any():
        order = np.argsort(shards, kind="stable")
        yield from ((number, order[chosen]) for number, chosen in _by_shard(shards[order]))
    elif len(shards):
        edges = np.flatnonzero(np.diff(shards)) + 1
        starts = [0, *edges.tolist()]
        ends = [*edges.tolist(), len(shards)]
        for start, end in zip(starts, ends, strict=True):
            yield int(shards[start]), slice(start, end)


def _float32(rows: npt.NDArray[np.float16]) -> Floats:
    # Copied first: PyTorch warns of arrays that cannot be written, as mapped ones cannot.
    converted: Floats = torch.from_numpy(np.array(rows)).float().numpy()
    return converted
