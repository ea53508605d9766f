"""Metrics: bootstrap intervals, AUROC, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "Estimate",
    "ReliabilityBin",
    "auroc",
    "bootstrap_means",
    "expected_calibration_error",
    "reliability_curve",
]


FloatArray = npt.NDArray[np.float64]

_DRAWS_AT_ONCE = 64


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval is on one side of zero."""
        return self.low > 0 or self.high < 0


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


def bootstrap_means(
    columns: npt.ArrayLike, images: npt.ArrayLike, samples: int = 1000, seed: int = 0
) -> list[Estimate]:
    """Return the mean of every column with its 95% interval, resampling whole images.

    Expressions about one image share its boxes and its difficulty, so resampling expressions
    would give intervals that are too narrow.

    Parameters
    ----------
    columns : array of shape (n, k)
        Values of n expressions; NaN leaves an expression out of a column.
    images : int array of shape (n,)
        Number of each expression's image, 0 to the number of images - 1.
    samples : int
        Number of bootstrap samples.
    seed : int
        Seed for the samples, which are the same for all columns.

    Returns
    -------
    list of k Estimate
        NaN for a column without values.

    Examples
    --------
    >>> bootstrap_means([[1.0], [1.0], [0.0]], [0, 0, 1])[0].value.__round__(2)
    0.67
    """
    values = np.asarray(columns, np.float64)
    numbers = np.asarray(images, np.int64)
    present = np.isfinite(values)
    total = int(numbers.max(initial=-1)) + 1
    sums, counts = np.zeros((2, total, values.shape[1]))
    np.add.at(sums, numbers, np.where(present, values, 0))
    np.add.at(counts, numbers, present)
    random = np.random.default_rng(seed)
    means = []
    with np.errstate(invalid="ignore", divide="ignore"):
        center = sums.sum(0) / counts.sum(0)
        for start in range(0, samples, _DRAWS_AT_ONCE):
            size = min(_DRAWS_AT_ONCE, samples - start)
            weights = random.multinomial(total, np.full(total, 1 / total), size).astype(float)
            means.append((weights @ sums) / (weights @ counts))
    drawn = np.concatenate(means)
    # A bootstrap sample may miss a small slice; its interval is over the samples that have it.
    limits = np.full((2, values.shape[1]), np.nan)
    known = np.isfinite(drawn).any(axis=0)
    limits[:, known] = np.nanpercentile(drawn[:, known], [2.5, 97.5], axis=0)
    return [
        Estimate(float(value), float(low), float(high))
        for value, low, high in zip(center, *limits, strict=True)
    ]


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
