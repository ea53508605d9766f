"""Calibration: from a score to the probability that the region matches and the phrase is there."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Calibration", "fit_calibration"]


@dataclass(frozen=True)
class Calibration:
    """Platt scaling: ``probability = sigmoid(slope · score + intercept)``.

    Two parameters, fitted to the best region of each image, hold on a few hundred phrases, and
    the probability grows with the score, so hits keep their order (Platt, Probabilistic outputs
    for support vector machines, 1999).

    Examples
    --------
    >>> Calibration(2.0, 0.0)(np.array([0.0], np.float32)).tolist()
    [0.5]
    """

    slope: float
    intercept: float

    def __call__(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return probabilities of scores."""
        logits = np.clip(self.slope * scores.astype(np.float64) + self.intercept, -60, 60)
        probabilities: npt.NDArray[np.float32] = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return probabilities

    def as_dict(self) -> dict[str, float]:
        """Return plain values, for JSON."""
        return asdict(self)


def fit_calibration(
    scores: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]
) -> Calibration | None:
    """Fit the scores of answers to whether they were right.

    Parameters
    ----------
    scores : array of shape (n,)
        Scores of the best region of an image for a phrase; for about half of them the phrase
        should come from another image.
    right : bool array of shape (n,)
        Whether the region is what the phrase means.

    Returns
    -------
    Calibration or None
        None if all answers are right or all are wrong, or if higher scores are not more often
        right: then no probability can be given.
    """
    if right.all() or not right.any():
        return None
    from sklearn.linear_model import LogisticRegression

    spread = float(scores.std()) or 1.0  # a cosine spreads over hundredths, a logit over units
    fitted = LogisticRegression(C=100.0).fit(scores[:, None] / spread, right)
    slope = float(fitted.coef_[0, 0]) / spread
    return Calibration(slope, float(fitted.intercept_[0])) if slope > 0 else None
