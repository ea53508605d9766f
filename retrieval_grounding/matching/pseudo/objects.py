"""Objects from detections: which boxes show one thing, and how certain it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...core.groups import is_group
from ...core.region_table import RegionTable
from ...core.regions import WHOLE_IMAGE, box_areas, pairwise_intersection, pairwise_iou

__all__ = ["DetectedObject", "find_objects"]


SURE_SCORE = 0.35  # boxes from here on may be described
MAYBE_SCORE = 0.15  # boxes from here on may show something, which makes other phrases ambiguous
SAME_OBJECT_IOU = 0.6
NESTED_SHARE = 0.8
AMBIGUOUS_LABEL = (
    0.4  # share of the best label's score from which a second label makes it uncertain
)
SMALLEST_AREA, LARGEST_AREA = 0.005, 0.9  # shares of the image


@dataclass(frozen=True, slots=True, eq=False)
class DetectedObject:
    """One object of an image; lengths are shares of the image's width and height.

    Parameters
    ----------
    row : int
        Row of its most confident box in the table.
    label : str
        Class name of that box.
    labels : frozenset of str
        Class names of all its boxes.
    sure : bool
        Whether it certainly exists, is one object, and is what `label` says. Other objects are
        never described, but a phrase for a sure object must not fit them either.
    doubtful : bool
        Whether it may well not exist.
    left, top, right, bottom : float
        Edges of the box, 0 to 1.
    shares : list of 11 float
        Shares of the basic colors, 0 to 1.
    """

    row: int
    label: str
    labels: frozenset[str]
    sure: bool
    doubtful: bool
    left: float
    top: float
    right: float
    bottom: float
    shares: list[float]

    @property
    def x(self) -> float:
        """Center, from the left."""
        return (self.left + self.right) / 2

    @property
    def y(self) -> float:
        """Center, from the top."""
        return (self.top + self.bottom) / 2

    @property
    def height(self) -> float:
        """Share of the image's height."""
        return self.bottom - self.top

    @property
    def width(self) -> float:
        """Share of the image's width."""
        return self.right - self.left

    @property
    def area(self) -> float:
        """Share of the image's area."""
        return self.width * self.height


def find_objects(table: RegionTable, image: int) -> list[DetectedObject]:
    """Return the objects of image number `image`, the most confident first.

    Boxes that overlap by more than `SAME_OBJECT_IOU` are one object, even with different labels.
    """
    rows = _boxes_by_score(table, image)
    if not len(rows):
        return []
    frame = table.boxes[table.image(image).start]
    sides = np.tile(frame[2:] - frame[:2], 2)
    boxes = (table.boxes[rows] - np.tile(frame[:2], 2)) / sides
    labels = [table.label(row) for row in rows.tolist()]
    scores = table.scores[rows].tolist()
    shares = (table.colors[rows] / 255).tolist()
    corners = boxes.tolist()

    objects = []
    for group, separate in _group_boxes(boxes, labels, scores):
        best = group[0]
        left, top, right, bottom = corners[best]
        others = [box for box in group if labels[box] != labels[best]]
        sure = (
            separate
            and scores[best] >= SURE_SCORE
            and SMALLEST_AREA <= (right - left) * (bottom - top) <= LARGEST_AREA
            and all(scores[box] < AMBIGUOUS_LABEL * scores[best] for box in others)
        )
        objects.append(
            DetectedObject(
                row=int(rows[best]),
                label=labels[best],
                labels=frozenset(labels[box] for box in group),
                sure=sure,
                doubtful=scores[best] < SURE_SCORE,
                left=left,
                top=top,
                right=right,
                bottom=bottom,
                shares=shares[best],
            )
        )
    return objects


def _boxes_by_score(table: RegionTable, image: int) -> npt.NDArray[np.int64]:
    """Return the rows of an image's detections, the most confident first.

    Faint detections are left out, and so are groups, which are not single objects.
    """
    region_rows = table.image(image)
    rows = np.arange(region_rows.start + 1, region_rows.stop)
    rows = rows[table.scores[rows] >= MAYBE_SCORE]
    rows = rows[np.argsort(-table.scores[rows], kind="stable")]
    labels = [(row, table.label(row)) for row in rows.tolist()]
    detections = [row for row, name in labels if name != WHOLE_IMAGE and not is_group(name)]
    return np.array(detections, np.int64)


def _group_boxes(
    boxes: npt.NDArray[np.float32], labels: list[str], scores: list[float]
) -> list[tuple[list[int], bool]]:
    """Group boxes, the most confident first, into objects.

    Returns
    -------
    list of (group, separate)
        The numbers of an object's boxes, and whether it is separate from the others: it is not if
        it is a part of a larger box of its class, or a box around smaller ones, so that one of the
        two is wrong. Such boxes are left out unless they are confident.
    """
    same = (pairwise_iou(boxes, boxes) > SAME_OBJECT_IOU).tolist()
    nested = (_covered_shares(boxes) > NESTED_SHARE).tolist()
    groups: list[tuple[list[int], bool]] = []
    for box, label in enumerate(labels):
        own_group = next((group for group, _ in groups if same[group[0]][box]), None)
        if own_group is not None:
            own_group.append(box)
            continue
        separate = not any(
            nested[group[0]][box] and labels[group[0]] == label for group, _ in groups
        )
        if separate or scores[box] >= SURE_SCORE:
            groups.append(([box], separate))
    return groups


def _covered_shares(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
    """Return the share of the smaller box of each pair that the larger one covers, (n, n)."""
    areas = box_areas(boxes)
    smaller = np.maximum(np.minimum.outer(areas, areas), 1e-9)
    shares: npt.NDArray[np.floating] = pairwise_intersection(boxes, boxes) / smaller
    return shares
