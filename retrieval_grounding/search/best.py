"""The best region of each candidate image: by all scores, or by what decides it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from ..matching import checks
from ..matching.matcher import Matcher
from .candidates import Candidates
from .image_passes import ImagePasses
from .rank import best_regions

__all__ = ["find_best"]


_PHRASES_AT_ONCE = 4  # fewer, longer steps; docs/performance.md has the measurement

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def find_best(
    matcher: Matcher,
    phrases: Phrases,
    found: Candidates,
    passes: ImagePasses,
    state: object,
    exact: bool,
) -> tuple[Rows, Floats]:
    """Return the row of the best region of each candidate image, and the scores of all regions.

    The best is one that filters allow. Where a matcher exits early, only the best have a score, and
    the others have NaN.

    Parameters
    ----------
    matcher : Matcher
        Scores regions.
    phrases : Phrases
        p phrases.
    found : Candidates
        Their candidates, with regions.
    passes : ImagePasses
        What is known of images already.
    state : object
        Of the catalog.
    exact : bool
        Score every region with the whole network.
    """
    regions = found.regions
    assert regions is not None
    if exact or not getattr(matcher, "exits_early", False):
        return _best_by_all_scores(matcher, phrases, found, regions)
    from ..matching.trained import TrainedMatcher  # it is loaded, since it has this attribute

    assert isinstance(matcher, TrainedMatcher)
    scores = np.full(len(regions), np.nan, np.float32)
    best = np.empty(len(regions.offsets) - 1, np.int64)
    keys, counts = found.keys, np.array([len(own) for own in found.by_phrase])
    ends = np.cumsum(counts)

    def score(numbers: npt.NDArray[np.int64]) -> bool:
        """Score the candidates of phrases; False if it must be done with all of the network."""
        stop = int(ends[numbers[-1]])
        start = int(ends[numbers[0]] - counts[numbers[0]])
        table = regions.images(start, stop)
        known = passes.gather(matcher, keys[start:stop], found.first_ids[start:stop], table, state)
        if known is None:
            return False
        own_ends = (ends[numbers] - start).tolist()
        own = slice(int(regions.offsets[start]), int(regions.offsets[stop]))
        allowed = None if found.allowed is None else found.allowed[own]
        rows, logits = matcher.best_of_images(phrases[numbers], table, known, own_ends, allowed)
        rows = rows + own.start
        best[start:stop] = rows
        scores[rows] = logits
        return True

    some = np.flatnonzero(counts)
    parts = [some[n : n + _PHRASES_AT_ONCE] for n in range(0, len(some), _PHRASES_AT_ONCE)]
    done = all(map(score, parts))
    if not done or not np.isfinite(scores[best]).all():
        return _best_by_all_scores(matcher, phrases, found, regions)
    return best, scores


def _best_by_all_scores(
    matcher: Matcher, phrases: Phrases, found: Candidates, regions: RegionTable
) -> tuple[Rows, Floats]:
    scores = checks.score_pairs(matcher, phrases, regions, found.phrase_rows)
    wanted = scores if found.allowed is None else np.where(found.allowed, scores, -np.inf)
    return best_regions(wanted, regions.offsets), scores
