"""Checks of what matchers return: matchers may be anybody's, and hits must be numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..core.errors import ModelError, StoreError
from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from .calibration import Calibration, Probabilities
from .matcher import Matcher

__all__ = ["probabilities", "score", "score_pairs"]


def score(matcher: Matcher, phrases: Phrases, regions: RegionTable) -> npt.NDArray[np.float32]:
    """Return a matcher's scores of all regions for all phrases, (p, n).

    Raises
    ------
    ModelError
        If it does not return one finite number for each.
    StoreError
        If it cannot, because embeddings in the index are not finite.
    """
    shape = (len(phrases), len(regions))
    return _checked(matcher, matcher.score(phrases, regions), shape, regions)


def score_pairs(
    matcher: Matcher,
    phrases: Phrases,
    regions: RegionTable,
    phrase_index: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Return a matcher's scores of regions, each image for its own phrase, (n,).

    Raises
    ------
    ModelError
        If it does not return one finite number for each region.
    StoreError
        If it cannot, because embeddings in the index are not finite.
    """
    found = matcher.score_pairs(phrases, regions, phrase_index)
    return _checked(matcher, found, (len(regions),), regions)


def probabilities(
    matcher: Matcher, scores: npt.NDArray[np.float32], images: int = 1
) -> Probabilities | None:
    """Return the probabilities of hits, or None if the matcher has none.

    A matcher with an attribute `calibration` has both. Otherwise its method `probabilities` gives
    the probability of the box, and nothing more is known of the image.

    Parameters
    ----------
    matcher : Matcher
        Gave the scores.
    scores : float32 array of shape (..., m)
        Along the last axis, the best score of each candidate image for one phrase.
    images : int
        Number of images that were searched, at least m.

    Raises
    ------
    ModelError
        If they are not numbers between 0 and 1, one for each score.
    """
    calibration = getattr(matcher, "calibration", None)
    if isinstance(calibration, Calibration):
        return calibration(scores, images)
    found = matcher.probabilities(scores)
    if found is None:
        return None
    found = np.asarray(found)
    if found.shape != scores.shape or not ((found >= 0) & (found <= 1)).all():
        raise ModelError(
            f"the matcher {matcher.name!r} must return a probability between 0 and 1 for each score"
        )
    return Probabilities(found, found)


def _checked(
    matcher: Matcher, scores: object, shape: tuple[int, ...], regions: RegionTable
) -> npt.NDArray[np.float32]:
    found = np.asarray(scores)
    if found.shape != shape or found.dtype.kind not in "fiu":
        raise ModelError(
            f"the matcher {matcher.name!r} must return numbers of the shape {shape}, not "
            f"{found.dtype} of the shape {found.shape}"
        )
    if not np.isfinite(found).all():
        if not np.isfinite(regions.embeddings).all():
            raise StoreError(
                "embeddings in the index are not finite; run 'retrieval-grounding verify INDEX "
                "--repair'"
            )
        raise ModelError(
            f"the matcher {matcher.name!r} returned a score that is not a finite number; correct "
            "it, or train it again"
        )
    return found
