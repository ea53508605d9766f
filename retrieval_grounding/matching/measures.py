"""The measures that choose the epoch: grounding, and finding the image among others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Measures", "measure"]


_CORRECT_IOU = 0.5


@dataclass(frozen=True)
class Measures:
    """How well a matcher does on validation examples.

    Parameters
    ----------
    accuracy, mean_iou : float
        Share of best regions with an IoU of at least 0.5, and their mean IoU.
    image_recall, box_recall : float
        R@1: share of phrases whose image ranks first among the validation images; BoxRecall@1:
        share of those whose box is right as well.
    reciprocal_rank : float
        Mean of 1 divided by the rank of the image, which sums up R@k for every k.
    """

    accuracy: float
    mean_iou: float
    image_recall: float
    box_recall: float
    reciprocal_rank: float


def measure(
    iou: npt.NDArray[np.float32],
    searched: npt.NDArray[np.int64],
    best_scores: npt.NDArray[np.float32],
    own_images: npt.NDArray[np.int64],
) -> Measures:
    """Return the measures of e examples, of which g were searched for in m images.

    Parameters
    ----------
    iou : float32 array of shape (e,)
        Of the best region of each example's image.
    searched : int64 array of shape (g,)
        The examples that were searched for.
    best_scores : float32 array of shape (g, m)
        Score of the best region of each image.
    own_images : int64 array of shape (g,)
        Column of each phrase's own image.

    Examples
    --------
    Two phrases; the second one's image ranks second, after one with the same score.

    >>> scores = np.array([[3, 1], [2, 2]], np.float32)
    >>> found = measure(np.array([0.8, 0.6], np.float32), np.arange(2), scores, np.array([0, 1]))
    >>> found.image_recall, found.box_recall, found.reciprocal_rank
    (0.5, 0.5, 0.75)
    """
    own = best_scores[np.arange(len(searched)), own_images]
    rank = np.maximum((best_scores >= own[:, None]).sum(axis=1), 1)  # 0 where scores are NaN
    first, right = rank <= 1, iou >= _CORRECT_IOU
    return Measures(
        accuracy=float(right.mean()),
        mean_iou=float(iou.mean()),
        image_recall=float(first.mean()),
        box_recall=float((first & right[searched]).mean()),
        reciprocal_rank=float((1 / rank).mean()),
    )
