"""Tuning an approximate index on phrases: how far to look so that candidate images are found.

A phrase is not distributed like the regions that the lists were placed by, so recall measured with
regions as queries says nothing. Phrases are asked exactly and approximately; one half chooses,
the other half tells what the choice reaches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .exact import StoredVectors, best_first
from .faiss_index import FaissIndex
from .metadata import Tuning

__all__ = ["CANDIDATES", "first_images", "tune"]


CANDIDATES = 100
"""Images that a query takes unless told otherwise: what recall is measured for."""

_PER_IMAGE = (2, 4, 8, 16, 32)
_EXACT_PER_IMAGE = 16
_TIMED_PHRASES = 16
_UNMEASURED = (64, 8)

Floats = npt.NDArray[np.float32]
Places = set[tuple[int, int]]


@dataclass(frozen=True)
class _Setting:
    effort: int
    per_image: int
    seconds: float


def tune(
    index: FaissIndex,
    stored: StoredVectors,
    phrases: Floats,
    target: float,
    trained_regions: int,
    candidates: int = CANDIDATES,
) -> Tuning:
    """Choose the quickest search of an index that reaches a recall, and say what it reaches.

    Parameters
    ----------
    index : FaissIndex
        Inverted lists or HNSW.
    stored : StoredVectors
        The same regions, for the truth and for re-scoring.
    phrases : float32 array of shape (p, d)
        Embeddings of phrases, unit length. With fewer than two a careful guess is returned,
        without recall.
    target : float
        Share of the `candidates` exact images to find, 0 to 1.
    trained_regions : int
        For the record.
    candidates : int
        Images wanted of a query.
    """
    total = len(index)
    if len(phrases) < 2:
        return Tuning(*_UNMEASURED, None, 0, total, trained_regions)
    _, exact = stored.search(phrases, min(_EXACT_PER_IMAGE * candidates, total))
    truth = [first_images(stored, row, candidates) for row in exact]
    choosing, telling = np.arange(0, len(phrases), 2), np.arange(1, len(phrases), 2)
    # Aimed a little higher, since phrases that did not choose reach a little less.
    aim = target + (1 - target) / 4
    settings: list[_Setting] = []
    for effort in _efforts(index):
        found = _candidates(index, stored, phrases[choosing], effort, candidates)
        for per_image in _PER_IMAGE:
            recall = _recall(found[per_image], truth, choosing)
            if recall >= aim:
                seconds = _seconds(index, stored, phrases, effort, per_image * candidates)
                settings.append(_Setting(effort, per_image, seconds))
                break
        if len(settings) > 2 or (settings and settings[-1].per_image == _PER_IMAGE[0]):
            break
    best = min(settings, key=lambda setting: setting.seconds, default=None)
    if best is None:  # out of reach: as far as is sensible, and the record says how far that is
        best = _Setting(effort, _PER_IMAGE[-1], 0.0)
    found = _candidates(index, stored, phrases[telling], best.effort, candidates)
    recall = _recall(found[best.per_image], truth, telling)
    return Tuning(best.effort, best.per_image, recall, len(telling), total, trained_regions)


def first_images(stored: StoredVectors, ids: npt.NDArray[np.int64], count: int) -> Places:
    """Return the images of the first regions, at most `count`; ids of -1 are passed over."""
    keys = dict.fromkeys(map(tuple, stored.images(ids[ids >= 0]).tolist()))
    keys.pop((-1, -1), None)
    return set(list(keys)[:count])


def _efforts(index: FaissIndex) -> Iterator[int]:
    """Yield powers of two, up to all lists of inverted lists."""
    effort, most = (1, index.lists) if index.kind == "ivf" else (32, 2048)
    while effort < most:
        yield effort
        effort *= 2
    yield most


def _candidates(
    index: FaissIndex, stored: StoredVectors, phrases: Floats, effort: int, candidates: int
) -> dict[int, list[Places]]:
    """Return the images that each phrase finds, by the number of regions that are re-scored."""
    found: dict[int, list[Places]] = {per_image: [] for per_image in _PER_IMAGE}
    _, ids = index.search(phrases, _PER_IMAGE[-1] * candidates, effort)
    scores = stored.score(phrases, ids)
    for row, own in zip(ids, scores, strict=True):
        for per_image in _PER_IMAGE:
            count = per_image * candidates
            _, best = best_first(own[:count], row[:count], count)
            found[per_image].append(first_images(stored, best, candidates))
    return found


def _recall(found: list[Places], truth: list[Places], chosen: npt.NDArray[np.int64]) -> float:
    shares = [
        len(own & truth[row]) / max(1, len(truth[row]))
        for own, row in zip(found, chosen.tolist(), strict=True)
    ]
    return float(np.mean(shares))


def _seconds(
    index: FaissIndex, stored: StoredVectors, phrases: Floats, effort: int, k: int
) -> float:
    """Return the median time of one phrase's search and re-scoring."""
    taken = []
    for number in range(min(_TIMED_PHRASES, len(phrases))):
        began = time.perf_counter()
        _, ids = index.search(phrases[number : number + 1], k, effort)
        stored.score(phrases[number : number + 1], ids)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))
