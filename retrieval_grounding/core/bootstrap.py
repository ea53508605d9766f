"""Means with bootstrap intervals that resample whole images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Estimate", "bootstrap_means"]


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
