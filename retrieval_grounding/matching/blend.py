"""Blends: matchers that add the standardized scores of two others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from .calibration import Calibration
from .label_matcher import LabelMatcher
from .matcher import CosineMatcher, Matcher
from .training_images import TrainingImages

__all__ = ["BlendMatcher", "BlendSpec"]


@dataclass(frozen=True)
class BlendSpec:
    """What a matcher's file says of the matcher that it is blended with.

    Parameters
    ----------
    weight : float
        Share of the other matcher, between 0 and 1.
    spreads : sequence of 2 float
        Standard deviations of the scores of the two matchers.
    label_scale : float
        The other one is ``cosine+label`` with this scale; 0 for cosine.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range.
    """

    weight: float
    spreads: tuple[float, float]
    label_scale: float = 0.0

    def __post_init__(self) -> None:
        if len(self.spreads) != 2:
            raise ValueError("a blend has two spreads")
        numbers = (self.weight, *self.spreads, self.label_scale)
        if any(type(n) not in (int, float) or not math.isfinite(n) for n in numbers):
            raise TypeError(f"its blend is {self}")
        if not (0 <= self.weight <= 1 and min(self.spreads) > 0 and self.label_scale >= 0):
            raise ValueError(f"its blend is {self}")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> BlendSpec:
        """Return the blend of :meth:`as_dict`."""
        return cls(**{**value, "spreads": tuple(value["spreads"])})

    @property
    def other(self) -> Matcher:
        """The matcher to blend with."""
        return LabelMatcher(self.label_scale) if self.label_scale else CosineMatcher()


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
    >>> blend = BlendMatcher(CosineMatcher(), LabelMatcher(0.2), 0.5, (0.1, 0.1))
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
    def spec(self) -> BlendSpec:
        """What a file says of the blend, if the second matcher is cosine or ``cosine+label``."""
        scale = self.second.scale if isinstance(self.second, LabelMatcher) else 0.0
        return BlendSpec(self.weight, (self.spreads[0], self.spreads[1]), scale)

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
        return None if self.calibration is None else self.calibration(scores)

    def _add(
        self, first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        weights = (1 - self.weight) / self.spreads[0], self.weight / self.spreads[1]
        return np.float32(weights[0]) * first + np.float32(weights[1]) * second
