"""Fitting a calibration to the hits of searches."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .calibration import Calibration, mean_rivals
from .galleries import GalleryHits
from .relevance import SHOWN, UNKNOWN

__all__ = ["fit_calibration"]

_INVERSE_PENALTY = 10.0


def fit_calibration(hits: GalleryHits) -> Calibration | None:
    """Fit probabilities to the first hits of searches.

    Hits of which nobody knows whether they are right count as neither.

    Parameters
    ----------
    hits : GalleryHits
        Searches in galleries of several sizes, in half of which nothing is right.

    Returns
    -------
    Calibration or None
        None if all hits are right, all are wrong, or higher scores are not more often right: no
        probability can be given then.
    """
    known = hits.shows[:, 0] != UNKNOWN
    scores = hits.scores[known].astype(np.float64)
    right = hits.shows[known, 0] == SHOWN
    if right.all() or not right.any():
        return None
    first = scores[:, 0]
    # Cosines vary by hundredths and logits by units; regularization must treat them alike.
    spread = float(first.std()) or 1.0
    usual = float(first[~right].mean())
    size = np.log10(hits.images[known])
    score, rival = (first - usual) / spread, (mean_rivals(scores, usual) - usual) / spread
    features = np.stack([score, score * size, rival, rival * size, size], axis=1)
    weights, constant = _fit_logistic(features, right)
    slope, growth, rivals, rivals_growth = (weight / spread for weight in weights[:4])
    if not (slope > 0 and math.isfinite(slope)):
        return None
    box_slope, box_intercept = _fit_box(hits, spread)
    return Calibration(
        slope=slope,
        intercept=constant - slope * usual,
        size=weights[4] - growth * usual,
        growth=growth,
        rivals=rivals,
        rivals_growth=rivals_growth,
        usual=usual,
        box_slope=box_slope,
        box_intercept=box_intercept,
    )


def _fit_box(hits: GalleryHits, spread: float) -> tuple[float, float | None]:
    """Fit the log odds of the box among first hits that are the phrase's own image."""
    known = hits.box[:, 0] != UNKNOWN
    scores, right = hits.scores[known, 0].astype(np.float64), hits.box[known, 0] == SHOWN
    if right.all():  # or nothing is known
        return 0.0, None
    if right.any():
        weights, constant = _fit_logistic(scores[:, None] / spread, right)
        if weights[0] > 0:
            return weights[0] / spread, constant
    odds = (right.sum() + 1) / (len(right) - right.sum() + 1)
    return 0.0, math.log(odds)


def _fit_logistic(
    features: npt.NDArray[np.float64], outcomes: npt.NDArray[np.bool_]
) -> tuple[list[float], float]:
    """Return the weights and the constant of a logistic regression."""
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=_INVERSE_PENALTY, max_iter=1000).fit(features, outcomes)
    return regression.coef_[0].tolist(), float(regression.intercept_[0])
