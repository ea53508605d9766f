"""What the detector is to find: referred boxes, and what it was already sure of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...core.regions import Regions, pairwise_iou
from .boxed_images import BoxedImage

__all__ = ["ANY_OBJECT", "Targets", "make_targets", "target_names"]

ANY_OBJECT = "object"
"""Class of boxes without a category, and of all boxes if classes are ignored."""

_CONFIDENT = 0.25
_SAME_OBJECT = 0.5


@dataclass(frozen=True)
class Targets:
    """What there is to find in an image.

    Parameters
    ----------
    boxes : float32 array of shape (n, 4)
        Corners in pixels: referred boxes, then pseudo-boxes.
    names : tuple of n str
        Their classes.
    referred : int
        Number of referred boxes.
    """

    boxes: npt.NDArray[np.float32]
    names: tuple[str, ...]
    referred: int


def make_targets(image: BoxedImage, found: Regions, class_agnostic: bool) -> Targets:
    """Mix the referred boxes of an image with what the detector has confidently found in it.

    Expressions name few of the things in an image. Without the detector's own boxes, all others
    would be taught to be background.

    Parameters
    ----------
    image : BoxedImage
        With referred boxes. One without a category takes the class that the detector sees there.
    found : Regions
        The detector's single detections.
    class_agnostic : bool
        Name all boxes ``object``.
    """
    sure = np.flatnonzero(found.scores >= _CONFIDENT)
    overlaps = pairwise_iou(image.boxes, found.boxes[sure])
    apart = sure[(overlaps < _SAME_OBJECT).all(axis=0)]
    names = [
        category or _seen_class(overlaps[row], found, sure)
        for row, category in enumerate(image.categories)
    ] + [found.labels[row] for row in apart]
    if class_agnostic:
        names = [ANY_OBJECT] * len(names)
    boxes = np.concatenate([image.boxes, found.boxes[apart]])
    return Targets(boxes, tuple(names), len(image.boxes))


def target_names(
    own: Sequence[str], targets: Mapping[str, Targets], class_agnostic: bool
) -> list[str]:
    """Return the classes of the new detector: its own, then whatever else is to be found."""
    if class_agnostic:
        return [ANY_OBJECT]
    named = sorted({name for target in targets.values() for name in target.names})
    return list(dict.fromkeys([*own, *named]))


def _seen_class(
    overlaps: npt.NDArray[np.float32], found: Regions, sure: npt.NDArray[np.intp]
) -> str:
    if len(sure) and overlaps.max() >= _SAME_OBJECT:
        return found.labels[int(sure[overlaps.argmax()])]
    return ANY_OBJECT
