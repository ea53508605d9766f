"""Oracle recall: the share of referred boxes that one of the first k boxes covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.bootstrap import Estimate, bootstrap_means
from ...core.regions import Regions, pairwise_iou
from .boxed_images import BoxedImage

__all__ = ["BOXES", "RecallGain", "compare_recall"]

BOXES = (10, 30, 50)
"""Numbers of boxes an image for which recall is reported."""

_COVERS = 0.5


@dataclass(frozen=True)
class RecallGain:
    """Oracle recall@0.5 before and after, with paired 95% intervals by image.

    Parameters
    ----------
    boxes : int
        Boxes per image.
    before, after, gain : Estimate
        Each with ``value``, ``low`` and ``high``.
    """

    boxes: int
    before: Estimate
    after: Estimate
    gain: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def compare_recall(
    images: Sequence[BoxedImage], before: Sequence[Regions], after: Sequence[Regions]
) -> list[RecallGain]:
    """Compare what two detectors find of the boxes that people referred to.

    Parameters
    ----------
    images : sequence of m BoxedImage
        Held out.
    before, after : sequences of m Regions
        Single detections of each image, by decreasing confidence.

    Returns
    -------
    list of RecallGain
        One for each of :data:`BOXES`; none if there is no box.
    """
    if not any(len(image.boxes) for image in images):
        return []
    numbers = np.repeat(np.arange(len(images)), [len(image.boxes) for image in images])
    first, second = _covered(images, before), _covered(images, after)
    estimates = bootstrap_means(np.concatenate([first, second, second - first], axis=1), numbers)
    k = len(BOXES)
    return [
        RecallGain(boxes, estimates[i], estimates[k + i], estimates[2 * k + i])
        for i, boxes in enumerate(BOXES)
    ]


def _covered(images: Sequence[BoxedImage], found: Sequence[Regions]) -> npt.NDArray[np.float64]:
    """Return whether the first k boxes cover each referred box, 0 or 1, one column for each k."""
    parts = []
    for image, regions in zip(images, found, strict=True):
        overlaps = pairwise_iou(image.boxes, regions.boxes)
        columns = [(overlaps[:, :k] >= _COVERS).any(axis=1) for k in BOXES]
        parts.append(np.stack(columns, axis=1))
    return np.concatenate(parts).astype(np.float64)
