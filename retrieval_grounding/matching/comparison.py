"""Comparing a trained matcher with others on held-out expressions, to decide whether to use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.regions import pairwise_iou
from ..core.text import counted
from ..core.types import RowKey
from ..storage.region_store import RegionStore
from .checks import score
from .dataset import Examples
from .matcher import Matcher

__all__ = ["Comparison", "compare", "held_out_iou", "sample_located"]


_CORRECT_IOU = 0.5
_MAX_EXAMPLES = 2000
_SURE_IMAGES = 30
"""With fewer images, a matcher must be better with 95% confidence."""

_T_95 = (np.inf, 6.31, 2.92, 2.35, 2.13)
"""One-sided 95% quantiles of Student's t by degrees of freedom; 2.02 and less from 5 on."""


@dataclass(frozen=True)
class Comparison:
    """A trained matcher and a different one on the same held-out expressions.

    Parameters
    ----------
    name : str
        Name of the other matcher.
    expressions, images : int
        How many were compared; neither matcher was trained on these images, as far as is known.
    mean_iou, other_mean_iou : float
        Mean IoU of the best regions by the trained and by the other matcher.
    accuracy, other_accuracy : float
        Share of the best regions with an IoU of at least 0.5.
    error : float
        Standard error of the gain in mean IoU, over images.
    """

    name: str
    expressions: int
    images: int
    mean_iou: float
    other_mean_iou: float
    accuracy: float
    other_accuracy: float
    error: float

    @property
    def gain(self) -> float:
        """Gain in mean IoU over the other matcher."""
        return self.mean_iou - self.other_mean_iou

    @property
    def problem(self) -> str:
        """Why the trained matcher should not replace the other one; empty if it should."""
        about = (
            f"on {counted(self.expressions, 'held-out expression')} about "
            f"{counted(self.images, 'image')}: mean IoU {self.mean_iou:.3f} against "
            f"{self.other_mean_iou:.3f}, Acc@0.5 {self.accuracy:.3f} against "
            f"{self.other_accuracy:.3f}"
        )
        if self.gain < 0:
            return f"it is worse than {self.name} {about}; add expressions or try a lower --lr"
        freedom = self.images - 1
        needed = self.error * (_T_95[freedom] if freedom < len(_T_95) else 2.02)
        if self.images < _SURE_IMAGES and not self.gain > needed:
            return f"it is not clearly better than {self.name} {about}; add expressions"
        return ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return dict(vars(self))


def sample_located(examples: Examples, seed: int) -> Examples:
    """Return at most 2,000 examples with a box, drawn at random."""
    located = np.flatnonzero(examples.located)
    return examples.take(np.sort(np.random.default_rng(seed).permutation(located)[:_MAX_EXAMPLES]))


def held_out_iou(
    matcher: Matcher, store: RegionStore, keys: Sequence[RowKey], examples: Examples
) -> npt.NDArray[np.float32]:
    """Return the IoU of the best region for each located example, (e,).

    Raises
    ------
    ModelError
        If a score is not finite.
    """
    found = np.zeros(len(examples), np.float32)
    for image in np.unique(examples.image).tolist():
        rows = np.flatnonzero(examples.image == image)
        table = store.gather([keys[image]])
        targets = examples.boxes[rows] * np.tile(table.boxes[0, 2:], 2)
        scores = score(matcher, examples.phrases[examples.phrase[rows]], table)
        overlaps = pairwise_iou(targets, table.boxes)
        found[rows] = overlaps[np.arange(len(rows)), scores.argmax(axis=1)]
    return found


def compare(
    name: str,
    images: npt.NDArray[np.int64],
    iou: npt.NDArray[np.float32],
    other_iou: npt.NDArray[np.float32],
) -> Comparison:
    """Compare two matchers by the IoU of their best regions.

    Parameters
    ----------
    name : str
        Name of the other matcher.
    images : int64 array of shape (e,)
        Number of each expression's image.
    iou, other_iou : float32 arrays of shape (e,)
        Of the trained and of the other matcher.
    """
    gains = iou.astype(np.float64) - other_iou
    _, numbers = np.unique(images, return_inverse=True)
    # Expressions about one image are alike: the error is that of a ratio over images.
    sums, counts = np.bincount(numbers, gains), np.bincount(numbers)
    residuals = sums - gains.mean() * counts
    m = len(counts)
    error = np.sqrt((residuals**2).sum() * m / max(m - 1, 1)) / len(gains)
    if m == 1:
        error = 1.0  # one image says nothing about others
    return Comparison(
        name=name,
        expressions=len(gains),
        images=m,
        mean_iou=float(iou.mean()),
        other_mean_iou=float(other_iou.mean()),
        accuracy=float((iou >= _CORRECT_IOU).mean()),
        other_accuracy=float((other_iou >= _CORRECT_IOU).mean()),
        error=float(error),
    )
