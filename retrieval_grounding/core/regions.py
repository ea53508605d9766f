"""The regions of one image: the value type that every part of the library exchanges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["WHOLE_IMAGE", "Regions", "box_areas", "pairwise_intersection", "pairwise_iou"]


FloatArray = npt.NDArray[np.float32]
BoxArray = npt.NDArray[np.floating]

WHOLE_IMAGE = "whole image"
"""Label of region 0, which covers the whole image."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Boxes in an image with the detector's scores and labels.

    Parameters
    ----------
    boxes : array of shape (n, 4)
        Corners ``x1, y1, x2, y2`` in pixels of the upright image, stored as float32. Every
        coordinate is finite and at least 0, and every box has a positive width and height.
    scores : array of shape (n,)
        The detector's confidence, 0 to 1, stored as float32.
    labels : sequence of n str
        Class names of the detector.

    Raises
    ------
    ValueError
        If the shapes disagree or a box or score is out of range.

    Examples
    --------
    >>> regions = Regions([[0, 0, 100, 50], [10, 10, 30, 40]], [1.0, 0.8], ["whole image", "dog"])
    >>> len(regions)
    2
    >>> regions.areas.tolist()
    [5000.0, 600.0]
    >>> regions[1].labels
    ('dog',)
    """

    boxes: FloatArray
    scores: FloatArray
    labels: tuple[str, ...]

    def __init__(
        self, boxes: npt.ArrayLike, scores: npt.ArrayLike, labels: Sequence[str] = ()
    ) -> None:
        box_array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        score_array = np.array(scores, dtype=np.float32).reshape(-1)
        label_tuple = tuple(str(label) for label in labels)
        _validate(box_array, score_array, label_tuple)
        for array in (box_array, score_array):
            array.setflags(write=False)
        object.__setattr__(self, "boxes", box_array)
        object.__setattr__(self, "scores", score_array)
        object.__setattr__(self, "labels", label_tuple)

    @classmethod
    def whole_image(cls, width: int, height: int) -> Regions:
        """Return the single region that covers an image of `width` × `height` pixels."""
        return cls([[0, 0, width, height]], [1.0], [WHOLE_IMAGE])

    @classmethod
    def concatenate(cls, parts: Sequence[Regions]) -> Regions:
        """Return the regions of all `parts`, in order."""
        if not parts:
            return cls([], [], [])
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            [label for part in parts for label in part.labels],
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int | slice | npt.NDArray[np.generic]) -> Regions:
        rows = np.atleast_1d(np.arange(len(self))[index])
        return Regions(self.boxes[rows], self.scores[rows], [self.labels[row] for row in rows])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Regions):
            return NotImplemented
        return (
            np.array_equal(self.boxes, other.boxes)
            and np.array_equal(self.scores, other.scores)
            and self.labels == other.labels
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def areas(self) -> FloatArray:
        """Areas in square pixels, shape (n,)."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        areas: FloatArray = sides[:, 0] * sides[:, 1]
        return areas

    @property
    def xywh(self) -> FloatArray:
        """Boxes as ``x, y, width, height``, the layout of COCO, shape (n, 4)."""
        corners, sides = self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]
        return np.concatenate([corners, sides], axis=1)

    def clip(self, width: int, height: int) -> Regions:
        """Return the regions clipped to the image, without those that keep less than a pixel."""
        limits = np.array([width, height, width, height], dtype=np.float32)
        boxes = np.minimum(self.boxes, limits)
        keep = np.flatnonzero(((boxes[:, 2:] - boxes[:, :2]) >= 1).all(axis=1))
        return Regions(boxes[keep], self.scores[keep], [self.labels[row] for row in keep])


def pairwise_iou(first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
    """Return the intersection over union of every box of `first` with every box of `second`.

    Parameters
    ----------
    first, second : arrays of shape (n, 4) and (m, 4)
        Boxes as ``x1, y1, x2, y2``.

    Returns
    -------
    float32 array of shape (n, m)
        0 if two boxes do not overlap, 1 if they are equal.

    Examples
    --------
    >>> pairwise_iou([[0, 0, 2, 2]], [[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]]).round(2).tolist()
    [[1.0, 0.33000001311302185, 0.0]]
    """
    a = np.asarray(first, dtype=np.float64).reshape(-1, 4)
    b = np.asarray(second, dtype=np.float64).reshape(-1, 4)
    shared = pairwise_intersection(a, b)
    union = np.add.outer(box_areas(a), box_areas(b)) - shared
    # Two boxes without area have no union; they overlap nothing rather than 0/0.
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    result: FloatArray = iou.astype(np.float32)
    return result


def pairwise_intersection(first: BoxArray, second: BoxArray) -> BoxArray:
    """Return the area that every box of `first` shares with every box of `second`.

    Parameters
    ----------
    first, second : float arrays of shape (n, 4) and (m, 4)
        Boxes as ``x1, y1, x2, y2``.

    Returns
    -------
    array of shape (n, m)
        Of the dtype of the boxes; 0 where boxes do not overlap.

    Examples
    --------
    >>> box = np.array([[0.0, 0, 2, 2]])
    >>> pairwise_intersection(box, np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).tolist()
    [[2.0, 0.0]]
    """
    starts = np.maximum(first[:, None, :2], second[None, :, :2])
    ends = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared: BoxArray = (ends - starts).clip(min=0).prod(axis=-1)
    return shared


def box_areas(boxes: BoxArray) -> BoxArray:
    """Return the areas of boxes ``x1, y1, x2, y2`` of shape (n, 4), in their dtype."""
    areas: BoxArray = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
    return areas


def _validate(boxes: FloatArray, scores: FloatArray, labels: tuple[str, ...]) -> None:
    if not len(boxes) == len(scores) == len(labels):
        raise ValueError(
            f"boxes, scores and labels differ in length: {len(boxes)}, {len(scores)}, {len(labels)}"
        )
    if not np.isfinite(boxes).all() or (boxes < 0).any():
        raise ValueError("box coordinates must be finite and at least 0")
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ValueError("every box must have x2 > x1 and y2 > y1")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("scores must lie between 0 and 1")
