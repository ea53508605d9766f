"""Blends: matchers that add the standardized scores of two others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from ..core.types import RowKey
from ..storage.region_store import RegionStore
from .calibration import Calibration
from .checks import score_pairs
from .matcher import Matcher
from .training_images import TrainingImages

__all__ = ["BlendMatcher", "blend_matchers", "score_spread"]


_IMAGES_AT_ONCE = 64


@dataclass(frozen=True)
class BlendMatcher:
    """Scores a region by the weighted sum of two matchers' scores, each divided by its spread.

    A trained network and cosine err differently, so their sum is often better than both.

    Parameters
    ----------
    first, second : Matcher
        What is added.
    weight : float
        Share of the second, between 0 and 1.
    spreads : sequence of 2 float
        Standard deviations of their scores; fixed, so that scores of different images compare.
    calibration : Calibration or None
        Turns scores into probabilities.

    Examples
    --------
    >>> from retrieval_grounding.matching.matcher import CosineMatcher
    >>> blend = BlendMatcher(CosineMatcher(), CosineMatcher(), 0.5, (0.1, 0.1))
    >>> blend.name
    'blend'
    """

    first: Matcher
    second: Matcher
    weight: float
    spreads: Sequence[float]
    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        """Name in tables of results: ``"blend"``."""
        return "blend"

    @property
    def images(self) -> TrainingImages | None:
        """The training images of the first matcher, if they were recorded."""
        found = getattr(self.first, "images", None)
        return found if isinstance(found, TrainingImages) else None

    @property
    def file(self) -> Path | None:
        """The file that the first matcher was read from, if it was."""
        found = getattr(self.first, "file", None)
        return found if isinstance(found, Path) else None

    def score(self, phrases: Phrases, regions: RegionTable) -> npt.NDArray[np.float32]:
        """Return the scores (p, n) of p phrases and n regions; see :meth:`.Matcher.score`."""
        return self._add(self.first.score(phrases, regions), self.second.score(phrases, regions))

    def score_pairs(
        self, phrases: Phrases, regions: RegionTable, phrase_rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return scores (n,), each image for its own phrase; see :meth:`.Matcher.score_pairs`."""
        return self._add(
            self.first.score_pairs(phrases, regions, phrase_rows),
            self.second.score_pairs(phrases, regions, phrase_rows),
        )

    def probabilities(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Return calibrated probabilities of scores, or None without a calibration."""
        return None if self.calibration is None else self.calibration(scores[..., None]).box[..., 0]

    def _add(
        self, first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        weights = (1 - self.weight) / self.spreads[0], self.weight / self.spreads[1]
        return np.float32(weights[0]) * first + np.float32(weights[1]) * second


def blend_matchers(
    first: Matcher,
    second: Matcher,
    phrases: Phrases,
    keys: Sequence[RowKey],
    store: RegionStore,
    weight: float = 0.5,
) -> BlendMatcher:
    """Return the blend of two matchers, whose spreads are measured.

    Parameters
    ----------
    first, second : Matcher
        What to add.
    phrases : Phrases
        m phrases; no truth about them is used.
    keys : sequence of m (shard, row)
        An image for each phrase.
    store : RegionStore
        Reads the images' regions.
    weight : float
        Share of the second, between 0 and 1.
    """
    spreads = [score_spread(matcher, phrases, keys, store) for matcher in (first, second)]
    return BlendMatcher(first, second, weight, spreads)


def score_spread(
    matcher: Matcher, phrases: Phrases, keys: Sequence[RowKey], store: RegionStore
) -> float:
    """Return the standard deviation of scores within an image; see :func:`blend_matchers`.

    It is 1 if a matcher gives all regions the same score.
    """
    variances = []
    for start in range(0, len(keys), _IMAGES_AT_ONCE):
        table = store.gather(keys[start : start + _IMAGES_AT_ONCE])
        images = len(table.offsets) - 1
        part = phrases[np.arange(start, start + images)]
        scores = score_pairs(matcher, part, table, np.arange(images)).astype(np.float64)
        for image in range(images):
            variances.append(scores[table.image(image)].var())
    return float(np.sqrt(np.mean(variances))) or 1.0
