"""How well the first k boxes of an image cover those that people referred to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.bootstrap import Estimate, bootstrap_means
from ...core.regions import Regions, pairwise_iou
from .boxed_images import BoxedImage

__all__ = ["BOXES", "OracleGain", "compare_overlap", "compare_recall"]

BOXES = (10, 30, 50)
"""Numbers of boxes an image for which figures are reported."""

_COVERS = 0.5


@dataclass(frozen=True)
class OracleGain:
    """A figure of the best boxes before and after, with paired 95% intervals by image.

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
) -> list[OracleGain]:
    """Compare oracle recall@0.5: the share of referred boxes that one of the first k boxes covers.

    Parameters
    ----------
    images : sequence of m BoxedImage
        Held out.
    before, after : sequences of m Regions
        Single detections of each image, by decreasing confidence.

    Returns
    -------
    list of OracleGain
        One for each of :data:`BOXES`; none if there is no box.
    """
    first, second = _best(images, before), _best(images, after)
    return _gains(images, (first >= _COVERS).astype(float), (second >= _COVERS).astype(float))


def compare_overlap(
    images: Sequence[BoxedImage], before: Sequence[Regions], after: Sequence[Regions]
) -> list[OracleGain]:
    """Compare the mean IoU of the referred boxes with the best of the first k boxes.

    No matcher can reach a higher mean IoU than this. It takes and returns what
    :func:`compare_recall` does.
    """
    return _gains(images, _best(images, before), _best(images, after))


def _gains(
    images: Sequence[BoxedImage], first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> list[OracleGain]:
    """Return the gains; the figures have a row for each referred box, a column for each k."""
    if not len(first):
        return []
    numbers = np.repeat(np.arange(len(images)), [len(image.boxes) for image in images])
    estimates = bootstrap_means(np.concatenate([first, second, second - first], axis=1), numbers)
    k = len(BOXES)
    return [
        OracleGain(boxes, estimates[i], estimates[k + i], estimates[2 * k + i])
        for i, boxes in enumerate(BOXES)
    ]


def _best(images: Sequence[BoxedImage], found: Sequence[Regions]) -> npt.NDArray[np.float64]:
    """Return each referred box's IoU with the best of the first k boxes, a column for each k."""
    parts = [np.empty((0, len(BOXES)))]
    for image, regions in zip(images, found, strict=True):
        overlaps = pairwise_iou(image.boxes, regions.boxes)
        columns = [overlaps[:, :k].max(axis=1, initial=0.0) for k in BOXES]
        parts.append(np.stack(columns, axis=1))
    return np.concatenate(parts)
