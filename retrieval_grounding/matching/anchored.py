"""The matcher that takes the order of images from one matcher and the regions from another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from .calibration import Calibration
from .matcher import Matcher
from .training_images import TrainingImages

__all__ = ["AnchoredMatcher", "anchored_scores"]


@dataclass(frozen=True)
class AnchoredMatcher:
    """Ranks images, and says how probable they are, as one matcher; chooses regions as another.

    Boxes teach which region of an image a phrase means, and little about the order of images. So
    a network trained on boxes alone keeps the order, and the probabilities, that there were before.

    Parameters
    ----------
    anchor : Matcher
        The best region of an image gets the score that the anchor gives its own best region.
    inner : Matcher
        Chooses the regions.
    spreads : sequence of 2 float
        Standard deviations of the scores of the two, which give the other regions their scores.
    calibration : Calibration or None
        Turns scores into probabilities: usually the anchor's, whose scores the best regions have.

    Examples
    --------
    >>> from retrieval_grounding.matching.matcher import CosineMatcher
    >>> AnchoredMatcher(CosineMatcher(), CosineMatcher(), (0.1, 0.1)).name
    'anchored'
    """

    anchor: Matcher
    inner: Matcher
    spreads: Sequence[float]
    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        """Name in tables of results: ``"anchored"``."""
        return "anchored"

    @property
    def images(self) -> TrainingImages | None:
        """The training images of the inner matcher, if they were recorded."""
        found = getattr(self.inner, "images", None)
        return found if isinstance(found, TrainingImages) else None

    @property
    def file(self) -> Path | None:
        """The file that the inner matcher was read from, if it was."""
        found = getattr(self.inner, "file", None)
        return found if isinstance(found, Path) else None

    def score(self, phrases: Phrases, regions: RegionTable) -> npt.NDArray[np.float32]:
        """Return the scores (p, n) of p phrases and n regions; see :meth:`.Matcher.score`."""
        return anchored_scores(
            self.anchor.score(phrases, regions),
            self.inner.score(phrases, regions),
            regions.offsets,
            self.spreads,
        )

    def score_pairs(
        self, phrases: Phrases, regions: RegionTable, phrase_rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return scores (n,), each image for its own phrase; see :meth:`.Matcher.score_pairs`."""
        return anchored_scores(
            self.anchor.score_pairs(phrases, regions, phrase_rows),
            self.inner.score_pairs(phrases, regions, phrase_rows),
            regions.offsets,
            self.spreads,
        )

    def probabilities(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Return calibrated probabilities of scores, or None without a calibration."""
        return None if self.calibration is None else self.calibration(scores[..., None]).box[..., 0]


def anchored_scores(
    anchor: npt.NDArray[np.float32],
    inner: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.int64],
    spreads: Sequence[float],
) -> npt.NDArray[np.float32]:
    """Return scores whose maximum in each image is the anchor's, ordered as the inner ones.

    Parameters
    ----------
    anchor, inner : float32 arrays of shape (..., n)
        Scores of n regions.
    offsets : int64 array of shape (images + 1,)
        Rows ``offsets[i]:offsets[i + 1]`` belong to image i; none is empty.
    spreads : sequence of 2 float
        Standard deviations of the two.

    Examples
    --------
    >>> anchor = np.array([3, 1, 0, 2], np.float32)
    >>> inner = np.array([0.25, 0.5, 0.5, 0], np.float32)
    >>> anchored_scores(anchor, inner, np.array([0, 2, 4]), (1.0, 0.5)).tolist()
    [2.5, 3.0, 2.0, 1.0]
    """
    if len(offsets) < 2:
        return anchor
    counts = np.diff(offsets)
    highest = [np.maximum.reduceat(part, offsets[:-1], axis=-1) for part in (anchor, inner)]
    top, inner_top = (np.repeat(part, counts, axis=-1) for part in highest)
    scale = np.float32(spreads[0] / spreads[1])
    scores: npt.NDArray[np.float32] = top + scale * (inner - inner_top)
    return scores
