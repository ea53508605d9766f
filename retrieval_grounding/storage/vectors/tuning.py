"""Tuning an approximate index on phrases: how far to search to find the candidate images.

Phrases are not distributed like the regions that the lists were trained on, so recall measured with
regions as queries would be meaningless. Exact search gives the truth for some phrases; one half of
them chooses the parameters, the other half measures the recall.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...core.types import RowKey
from .exact import ShardVectors, top_k
from .faiss_index import FaissIndex
from .metadata import Tuning
from .search_parameters import SearchParameters

__all__ = ["CANDIDATES", "first_images", "tune"]


CANDIDATES = 100
"""Candidate images of a query by default, and those that recall is measured for."""

_REFINE_FACTORS = (2, 4, 8, 16, 32)
_EXACT_REGIONS_PER_IMAGE = 16
_TIMED_PHRASES = 16
_MAX_CHOICES = 3
_UNMEASURED_PARAMETERS = SearchParameters(nprobe=64, ef_search=64)
_UNMEASURED_REFINE_FACTOR = 8

Floats = npt.NDArray[np.float32]
Images = set[RowKey]


@dataclass(frozen=True)
class _Choice:
    parameters: SearchParameters
    refine_factor: int
    seconds: float


def tune(
    index: FaissIndex,
    vectors: ShardVectors,
    phrases: Floats,
    target_recall: float,
    trained_regions: int,
    candidates: int = CANDIDATES,
) -> Tuning:
    """Choose the fastest search of an index that reaches a recall, and measure its recall.

    Parameters
    ----------
    index : FaissIndex
        Inverted lists or HNSW.
    vectors : ShardVectors
        The same regions, for exact search and re-scoring.
    phrases : float32 array of shape (p, d)
        Embeddings of phrases, unit length. If there are fewer than two, cautious defaults are
        returned, without recall.
    target_recall : float
        Share of the `candidates` exact images to find, 0 to 1.
    trained_regions : int
        Regions that the lists were trained for; copied to the result.
    candidates : int
        Candidate images per query.
    """
    total = len(index)
    if len(phrases) < 2:
        return Tuning(
            _UNMEASURED_PARAMETERS, _UNMEASURED_REFINE_FACTOR, None, 0, total, trained_regions
        )
    _, exact = vectors.search(phrases, min(_EXACT_REGIONS_PER_IMAGE * candidates, total))
    truth = [first_images(vectors, row, candidates) for row in exact]
    # Slightly above the target, since recall on phrases that did not choose is slightly lower.
    aim = target_recall + (1 - target_recall) / 4
    choice = _choose(index, vectors, phrases[0::2], truth[0::2], aim, candidates)
    held_out = phrases[1::2]
    found = _candidates(index, vectors, held_out, choice.parameters, candidates)
    recall = _recall(found[choice.refine_factor], truth[1::2])
    return Tuning(
        choice.parameters, choice.refine_factor, recall, len(held_out), total, trained_regions
    )


def _choose(
    index: FaissIndex,
    vectors: ShardVectors,
    phrases: Floats,
    truth: list[Images],
    aim: float,
    candidates: int,
) -> _Choice:
    """Return the fastest of the first choices that reach a recall; else the furthest search."""
    choices: list[_Choice] = []
    for parameters in _parameter_grid(index):
        found = _candidates(index, vectors, phrases, parameters, candidates)
        for refine_factor in _REFINE_FACTORS:
            if _recall(found[refine_factor], truth) >= aim:
                k = refine_factor * candidates
                seconds = _median_seconds(index, vectors, phrases, parameters, k)
                choices.append(_Choice(parameters, refine_factor, seconds))
                break
        least_refined = choices and choices[-1].refine_factor == _REFINE_FACTORS[0]
        if least_refined or len(choices) == _MAX_CHOICES:
            break
    if not choices:  # out of reach, as the measured recall will show
        return _Choice(parameters, _REFINE_FACTORS[-1], 0.0)
    return min(choices, key=lambda choice: choice.seconds)


def first_images(vectors: ShardVectors, ids: npt.NDArray[np.int64], count: int) -> Images:
    """Return the images of the first regions, at most `count`; ids of -1 are ignored."""
    keys = dict.fromkeys((shard, row) for shard, row in vectors.images(ids[ids >= 0]).tolist())
    keys.pop((-1, -1), None)
    return set(list(keys)[:count])


def _parameter_grid(index: FaissIndex) -> Iterator[SearchParameters]:
    """Yield parameters to try: powers of two, up to all lists for inverted lists."""
    value, largest = (1, index.lists) if index.kind == "ivf" else (32, 2048)
    while value < largest:
        yield SearchParameters.for_kind(index.kind, value)
        value *= 2
    yield SearchParameters.for_kind(index.kind, largest)


def _candidates(
    index: FaissIndex,
    vectors: ShardVectors,
    phrases: Floats,
    parameters: SearchParameters,
    candidates: int,
) -> dict[int, list[Images]]:
    """Return the images that each phrase finds, by refine factor."""
    found: dict[int, list[Images]] = {factor: [] for factor in _REFINE_FACTORS}
    _, ids = index.search(phrases, _REFINE_FACTORS[-1] * candidates, parameters)
    scores = vectors.score(phrases, ids)
    for phrase_ids, phrase_scores in zip(ids, scores, strict=True):
        for factor in _REFINE_FACTORS:
            k = factor * candidates
            _, best = top_k(phrase_scores[:k], phrase_ids[:k], k)
            found[factor].append(first_images(vectors, best, candidates))
    return found


def _recall(found: list[Images], truth: list[Images]) -> float:
    """Return the mean share of the exact images that were found."""
    shares = [
        len(own & expected) / max(1, len(expected))
        for own, expected in zip(found, truth, strict=True)
    ]
    return float(np.mean(shares))


def _median_seconds(
    index: FaissIndex,
    vectors: ShardVectors,
    phrases: Floats,
    parameters: SearchParameters,
    k: int,
) -> float:
    """Return the median time of searching and re-scoring for one phrase."""
    seconds = []
    for number in range(min(_TIMED_PHRASES, len(phrases))):
        phrase = phrases[number : number + 1]
        started = time.perf_counter()
        _, ids = index.search(phrase, k, parameters)
        vectors.score(phrase, ids)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))
