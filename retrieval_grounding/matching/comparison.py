"""Comparing a trained matcher with others on held-out expressions, to decide whether to use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.bootstrap import Estimate, bootstrap_means
from ..core.text import counted
from .held_out import Outcome

__all__ = ["Comparison", "compare"]


_CORRECT_IOU = 0.5

_TOLERATED = {"mean IoU": 0.02, "mean reciprocal rank": 0.03}
"""A loss that may be chance is accepted if, with 95% confidence, it is at most this."""

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
    reciprocal_rank, other_reciprocal_rank : float
        Mean of 1 divided by the rank of a phrase's image among the held-out images.
    image_recall, other_image_recall : float
        R@1: share of phrases whose image ranks first.
    box_recall, other_box_recall : float
        BoxRecall@1: share of phrases whose image ranks first, with the right box.
    gain, rank_gain : Estimate
        Gains in mean IoU and in mean reciprocal rank, with 95% intervals by paired bootstrap over
        images.
    error : float
        Standard error of the gain in mean IoU, over images.
    in_use : bool
        Whether the index uses the other matcher, so that an equal one does not replace it.
    """

    name: str
    expressions: int
    images: int
    mean_iou: float
    other_mean_iou: float
    accuracy: float
    other_accuracy: float
    reciprocal_rank: float
    other_reciprocal_rank: float
    image_recall: float
    other_image_recall: float
    box_recall: float
    other_box_recall: float
    gain: Estimate
    rank_gain: Estimate
    error: float
    in_use: bool = False

    @property
    def problem(self) -> str:
        """Why the trained matcher should not replace the other one; empty if it should."""
        about = (
            f"on {counted(self.expressions, 'held-out expression')} about "
            f"{counted(self.images, 'image')}"
        )
        grounding = (
            f"{about}: mean IoU {self.mean_iou:.3f} against {self.other_mean_iou:.3f}, Acc@0.5 "
            f"{self.accuracy:.3f} against {self.other_accuracy:.3f}"
        )
        ranking = (
            f"{about}: mean reciprocal rank {self.reciprocal_rank:.3f} against "
            f"{self.other_reciprocal_rank:.3f}, R@1 {self.image_recall:.3f} against "
            f"{self.other_image_recall:.3f}"
        )
        few = self.images < _SURE_IMAGES
        if _loses(self.gain, few, _TOLERATED["mean IoU"]):
            return f"it is worse than {self.name} {grounding}; add expressions or try a lower --lr"
        if _loses(self.rank_gain, few, _TOLERATED["mean reciprocal rank"]):
            return f"it ranks images worse than {self.name} {ranking}; add expressions"
        freedom = self.images - 1
        needed = self.error * (_T_95[freedom] if freedom < len(_T_95) else 2.02)
        if few and not self.gain.value > needed:
            return f"it is not clearly better than {self.name} {grounding}; add expressions"
        if self.in_use and not self.gain.value + self.rank_gain.value > 0:
            return f"it gains nothing over {self.name} {grounding}"
        return ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        estimates = {name: vars(getattr(self, name)) for name in ("gain", "rank_gain")}
        return vars(self) | estimates


def _loses(gain: Estimate, few: bool, tolerated: float) -> bool:
    """Return whether a negative gain is more than chance, or may be more than is tolerated.

    Few images decide little, so there only a clear loss counts.
    """
    return gain.value < 0 and (gain.high < 0 or (not few and gain.low < -tolerated))


def compare(name: str, ours: Outcome, theirs: Outcome, in_use: bool = False) -> Comparison:
    """Compare two matchers on the same examples.

    Parameters
    ----------
    name : str
        Name of the other matcher.
    ours, theirs : Outcome
        Of the trained and of the other matcher.
    in_use : bool
        Whether the index uses the other one.
    """
    gains = ours.iou.astype(np.float64) - theirs.iou
    rank_gains = ours.reciprocal_rank - theirs.reciprocal_rank
    _, numbers = np.unique(ours.images, return_inverse=True)
    # Expressions about one image are alike: the error is that of a ratio over images.
    sums, counts = np.bincount(numbers, gains), np.bincount(numbers)
    residuals = sums - gains.mean() * counts
    m = len(counts)
    error = np.sqrt((residuals**2).sum() * m / max(m - 1, 1)) / len(gains)
    if m == 1:
        error = 1.0  # one image says nothing about others
    gain, rank_gain = bootstrap_means(np.stack([gains, rank_gains], axis=1), numbers)
    if not np.isfinite(rank_gain.value):  # nothing was searched for
        rank_gain = Estimate(0.0, 0.0, 0.0)
    return Comparison(
        name=name,
        expressions=len(gains),
        images=m,
        mean_iou=float(ours.iou.mean()),
        other_mean_iou=float(theirs.iou.mean()),
        accuracy=float((ours.iou >= _CORRECT_IOU).mean()),
        other_accuracy=float((theirs.iou >= _CORRECT_IOU).mean()),
        reciprocal_rank=_mean(ours.reciprocal_rank),
        other_reciprocal_rank=_mean(theirs.reciprocal_rank),
        image_recall=_mean(ours.image_recall),
        other_image_recall=_mean(theirs.image_recall),
        box_recall=_mean(ours.box_recall),
        other_box_recall=_mean(theirs.box_recall),
        gain=gain,
        rank_gain=rank_gain,
        error=float(error),
        in_use=in_use,
    )


def _mean(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0
