"""How probable hits are, given everything that a query has seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..matching import checks
from ..matching.calibration import Probabilities
from ..matching.matcher import Matcher

__all__ = ["best_probabilities"]


def best_probabilities(
    matcher: Matcher,
    scores: npt.NDArray[np.float32],
    best: npt.NDArray[np.int64],
    by_phrase: Sequence[npt.NDArray[np.int64]],
    images: int,
) -> Probabilities | None:
    """Return the probabilities of the best regions of candidate images, or None.

    Parameters
    ----------
    matcher : Matcher
        Gave the scores.
    scores : float32 array of shape (n,)
        Of all regions of all candidates.
    best : int64 array of shape (m,)
        Row of the best region of each candidate.
    by_phrase : sequence of int64 arrays
        For each phrase, which of the m candidates are its own.
    images : int
        Number of images that were searched.

    Returns
    -------
    Probabilities or None
        Arrays of shape (n,); NaN for regions that are not the best of their image. None if the
        matcher is not calibrated.
    """
    found = Probabilities(np.full_like(scores, np.nan), np.full_like(scores, np.nan))
    for candidates in by_phrase:
        rows = best[candidates]
        own = checks.probabilities(matcher, scores[rows], max(images, len(rows)))
        if own is None:
            return None
        found.image[rows], found.box[rows] = own
    return found
