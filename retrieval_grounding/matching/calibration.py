"""Calibration: the probability that a region of a given score is what the phrase describes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Calibration", "fit_calibration"]


_MAX_LOGIT = 60.0  # keeps exp() finite


@dataclass(frozen=True)
class Calibration:
    """Platt scaling: ``probability = sigmoid(slope · score + intercept)``.

    Two parameters can be fitted to a few hundred phrases, and since the probability grows with the
    score, hits keep their order (Platt, Probabilistic outputs for support vector machines, 1999).

    Parameters
    ----------
    slope : float
        Positive, so that probabilities grow with scores.
    intercept : float
        Log odds of a score of 0.

    Raises
    ------
    ValueError
        If a parameter is not a finite number.

    Examples
    --------
    >>> calibration = Calibration(slope=2.0, intercept=0.0)
    >>> calibration(np.array([0.0, 1.0], np.float32)).round(2).tolist()
    [0.5, 0.8799999952316284]
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        for value in (self.slope, self.intercept):
            if type(value) not in (int, float) or not math.isfinite(value):
                raise ValueError(f"slope and intercept must be finite numbers, not {value!r:.20}")

    def __call__(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the probabilities of scores, as a float32 array of the same shape."""
        logits = self.slope * scores.astype(np.float64) + self.intercept
        logits = np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT)
        probabilities: npt.NDArray[np.float32] = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return probabilities

    def as_dict(self) -> dict[str, float]:
        """Return plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> Calibration:
        """Return the calibration of :meth:`as_dict`.

        Raises
        ------
        TypeError, ValueError
            If a value is missing, of a wrong type or impossible.
        """
        calibration = cls(**value)
        numbers = (calibration.slope, calibration.intercept)
        if any(type(number) not in (int, float) for number in numbers):
            raise TypeError(f"its calibration is {value}")
        if not (calibration.slope > 0 and all(map(math.isfinite, numbers))):
            raise ValueError(f"its calibration is {value}")
        return calibration


def fit_calibration(
    scores: npt.NDArray[np.float32], correct: npt.NDArray[np.bool_]
) -> Calibration | None:
    """Fit probabilities to predictions that are known to be correct or wrong.

    Parameters
    ----------
    scores : float32 array of shape (n,)
        Score of the best region of an image for a phrase; about half of the phrases should be of
        other images.
    correct : bool array of shape (n,)
        Whether the region is what the phrase describes.

    Returns
    -------
    Calibration or None
        None if all predictions are correct, all are wrong, or higher scores are not more often
        correct: no probability can be given then.
    """
    if correct.all() or not correct.any():
        return None
    from sklearn.linear_model import LogisticRegression

    # Cosines vary by hundredths and logits by units; regularization must treat them alike.
    spread = float(scores.std()) or 1.0
    regression = LogisticRegression(C=100.0).fit(scores[:, None] / spread, correct)
    slope = float(regression.coef_[0, 0]) / spread
    intercept = float(regression.intercept_[0])
    usable = slope > 0 and math.isfinite(slope) and math.isfinite(intercept)
    return Calibration(slope, intercept) if usable else None
