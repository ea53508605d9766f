"""Metrics: AUROC and calibration, and the bootstrap intervals of :mod:`.core.bootstrap`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.bootstrap import Estimate, bootstrap_means

__all__ = [
    "Estimate",
    "ReliabilityBin",
    "auroc",
    "bootstrap_means",
    "expected_calibration_error",
    "reliability_curve",
]


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions with probabilities in one interval.

    Parameters
    ----------
    probability : float
        Mean predicted probability.
    frequency : float
        Share of the predictions that were right.
    count : int
        Number of predictions.
    """

    probability: float
    frequency: float
    count: int


def auroc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Return the probability that a positive score is above a negative one; ties count half.

    Examples
    --------
    >>> auroc([0.9, 0.4], [0.1, 0.4])
    0.875
    """
    from sklearn.metrics import roc_auc_score

    scores = np.concatenate([np.asarray(positive, float), np.asarray(negative, float)])
    truth = np.arange(len(scores)) < len(np.asarray(positive))
    return float(roc_auc_score(truth, scores))


def reliability_curve(
    probabilities: npt.ArrayLike, outcomes: npt.ArrayLike, bins: int = 15
) -> list[ReliabilityBin]:
    """Return how often predictions are right, by their probability.

    Parameters
    ----------
    probabilities : array of shape (n,)
        Predicted, 0 to 1.
    outcomes : bool array of shape (n,)
        Whether the predictions are right.
    bins : int
        Number of bins of equal width between 0 and 1; empty ones are left out.

    Examples
    --------
    >>> [part] = reliability_curve([0.5, 0.75], [True, False], bins=2)
    >>> part.probability, part.frequency, part.count
    (0.625, 0.5, 2)
    """
    predicted = np.asarray(probabilities, np.float64)
    right = np.asarray(outcomes, np.float64)
    number = np.minimum((predicted * bins).astype(int), bins - 1)
    counts = np.bincount(number, minlength=bins)
    used = np.flatnonzero(counts)
    mean_predicted = np.bincount(number, predicted, bins)[used] / counts[used]
    mean_right = np.bincount(number, right, bins)[used] / counts[used]
    return [
        ReliabilityBin(float(p), float(f), int(c))
        for p, f, c in zip(mean_predicted, mean_right, counts[used], strict=True)
    ]


def expected_calibration_error(
    probabilities: npt.ArrayLike, outcomes: npt.ArrayLike, bins: int = 15
) -> float:
    """Return the mean distance between probability and frequency, weighted by predictions.

    See :func:`reliability_curve` for parameters.

    Examples
    --------
    >>> expected_calibration_error([0.8, 0.8, 0.8, 0.8], [True, True, True, False]).__round__(3)
    0.05
    """
    curve = reliability_curve(probabilities, outcomes, bins)
    total = sum(part.count for part in curve)
    return sum(abs(part.probability - part.frequency) * part.count for part in curve) / total
