"""Calibration: how probable it is that an image shows a phrase, and that a box is what is meant."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Calibration", "Probabilities", "mean_rivals"]


_MAX_LOGIT = 60.0  # keeps exp() finite
_RIVALS = 10
_PRIOR_RIVALS = 3.0
_LEAST_SLOPE = 0.25

FloatArray = npt.NDArray[np.float32]


class Probabilities(NamedTuple):
    """Two probabilities of hits, float32 arrays of the same shape.

    Parameters
    ----------
    image : float32 array
        That the image shows what the phrase describes.
    box : float32 array
        That it does, and the region is the one described; never above `image`.
    """

    image: FloatArray
    box: FloatArray


@dataclass(frozen=True)
class Calibration:
    """Probabilities from the scores of a query's candidates and the size of the collection.

    The log odds that an image shows what the phrase describes are ``(slope + growth · g) · score +
    size · g + (rivals + rivals_growth · g) · r + intercept``. Here g is the decimal logarithm of
    the number of images, and r the mean score of the images that follow the best, above `usual`.
    All of this but the score is the same for all hits of a phrase, so hits keep their order. The
    log odds that the region is the right one, if the image is, are ``box_slope · score +
    box_intercept``.

    With the first two parameters alone, this is Platt scaling (Platt, Probabilistic outputs for
    support vector machines, 1999), and the two probabilities are the same.

    Parameters
    ----------
    slope : float
        Positive, so that probabilities grow with scores.
    intercept : float
        Log odds of a score of 0.
    size : float
        Change of the log odds from a collection to one that is ten times as large.
    rivals : float
        Weight of the mean score of the ten images that follow the best.
    rivals_growth : float
        Change of that weight from a collection to one that is ten times as large.
    growth : float
        Change of the slope from a collection to one that is ten times as large. The slope stays
        above a fourth of `slope`.
    usual : float
        The score that counts in place of those of missing rivals.
    box_slope : float
        Not negative.
    box_intercept : float or None
        None if nothing is known of boxes: the region of an image that shows it is taken as right.

    Raises
    ------
    ValueError
        If a parameter is not a finite number.

    Examples
    --------
    >>> platt = Calibration(slope=2.0, intercept=0.0)
    >>> platt(np.array([0.0, 1.0], np.float32)).image.round(2).tolist()
    [0.5, 0.8799999952316284]
    >>> grown = Calibration(slope=2.0, intercept=0.0, size=-1.0)
    >>> grown(np.array([1.0], np.float32), images=1000).image.round(2).tolist()
    [0.27000001072883606]
    """

    slope: float
    intercept: float
    size: float = 0.0
    growth: float = 0.0
    rivals: float = 0.0
    rivals_growth: float = 0.0
    usual: float = 0.0
    box_slope: float = 0.0
    box_intercept: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "box_intercept" and value is None:
                continue
            if type(value) not in (int, float) or not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, not {value!r:.20}")

    def __call__(self, scores: FloatArray, images: int = 1) -> Probabilities:
        """Return the probabilities of hits.

        Parameters
        ----------
        scores : float32 array of shape (..., m)
            Along the last axis, the best score of each candidate image for one phrase.
        images : int
            Number of images in the collection, at least m.
        """
        grown = math.log10(max(images, 1))
        slope = max(self.slope + self.growth * grown, _LEAST_SLOPE * self.slope)
        logits = (
            slope * scores.astype(np.float64)
            + self.size * grown
            + (self.rivals + self.rivals_growth * grown)
            * (mean_rivals(scores, self.usual)[..., None] - self.usual)
            + self.intercept
        )
        image = _sigmoid(logits)
        if self.box_intercept is None:
            return Probabilities(image.astype(np.float32), image.astype(np.float32))
        box = image * _sigmoid(self.box_slope * scores.astype(np.float64) + self.box_intercept)
        return Probabilities(image.astype(np.float32), box.astype(np.float32))

    def as_dict(self) -> dict[str, float | None]:
        """Return plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> Calibration:
        """Return the calibration of :meth:`as_dict`; ``slope`` and ``intercept`` suffice.

        Raises
        ------
        TypeError, ValueError
            If a value is missing, of a wrong type or impossible.
        """
        calibration = cls(**value)
        if not (calibration.slope > 0 and calibration.box_slope >= 0):
            raise ValueError(f"its calibration is {value}")
        return calibration


def mean_rivals(scores: npt.NDArray[np.floating], usual: float) -> npt.NDArray[np.float64]:
    """Return the mean score of the images that follow the best.

    Parameters
    ----------
    scores : floating array of shape (..., m)
        Scores of images; NaN for none.
    usual : float
        With few or no rivals, counts as the score of some more.

    Returns
    -------
    float64 array of shape (...)
    """
    ordered = -np.sort(-scores.astype(np.float64), axis=-1)  # NaN is last
    following = ordered[..., 1 : 1 + _RIVALS]
    count = np.isfinite(following).sum(axis=-1)
    mean: npt.NDArray[np.float64] = (np.nansum(following, axis=-1) + _PRIOR_RIVALS * usual) / (
        count + _PRIOR_RIVALS
    )
    return mean


def _sigmoid(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    clipped = np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT)
    probabilities: npt.NDArray[np.float64] = 1 / (1 + np.exp(-clipped))
    return probabilities
