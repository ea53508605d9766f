"""The figures of an evaluation, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .metrics import Estimate, ReliabilityBin

__all__ = ["CURVE", "RECALLS", "Figures", "Slice"]


CURVE = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""IoU thresholds of the accuracy curve."""

RECALLS = (1, 5, 10)
"""Ranks of BoxRecall and of image recall."""


@dataclass(frozen=True)
class Figures:
    """Figures of one method: a matcher, a baseline, or a file of predictions.

    Parameters
    ----------
    mean_iou, accuracy : Estimate
        Mean IoU, and Acc@0.5: the share of predictions with an IoU of at least 0.5.
    curve : sequence of float
        Accuracy at the thresholds of `CURVE`.
    mean_iou_gain, accuracy_gain : Estimate or None
        Paired differences from the baseline, if there is one.
    given_box : float or None
        Share of expressions for which the best region is chosen, among those whose object a region
        covers.
    box_recall, image_recall : mapping of int to Estimate, or None
        BoxRecall@k, the share of phrases with the right box in one of the first k images, and R@k,
        the share with the right image among them, by k.
    box_recall_gain, image_recall_gain : mapping of int to Estimate, or None
        Paired differences from the baseline.
    auroc : float or None
        Of present against absent phrases.
    calibration_error : float or None
        Expected calibration error of the probabilities, if there are any.
    reliability : sequence of ReliabilityBin
        Their reliability curve.
    missing : int
        Expressions without a prediction; they count as IoU 0.
    """

    mean_iou: Estimate
    accuracy: Estimate
    curve: Sequence[float]
    mean_iou_gain: Estimate | None = None
    accuracy_gain: Estimate | None = None
    given_box: float | None = None
    box_recall: Mapping[int, Estimate] | None = None
    image_recall: Mapping[int, Estimate] | None = None
    box_recall_gain: Mapping[int, Estimate] | None = None
    image_recall_gain: Mapping[int, Estimate] | None = None
    auroc: float | None = None
    calibration_error: float | None = None
    reliability: Sequence[ReliabilityBin] = ()
    missing: int = 0

    def accuracy_at(self, threshold: float) -> float:
        """Return the share of predictions with at least this IoU, which must be in `CURVE`."""
        return self.curve[CURVE.index(threshold)]


@dataclass(frozen=True)
class Slice:
    """Mean IoU and Acc@0.5 on a part of the expressions, by method."""

    expressions: int
    mean_iou: Mapping[str, Estimate]
    accuracy: Mapping[str, Estimate]
