"""From detections to objects: which boxes are one thing, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.region_table import RegionTable
from ...core.regions import WHOLE_IMAGE, pairwise_iou

__all__ = ["DetectedObject", "find_objects"]


SURE_SCORE = 0.35  # a box that may be described
MAYBE_SCORE = 0.15  # a box that may be something, and then makes other descriptions doubtful
SAME_OBJECT_IOU = 0.6
NESTED_SHARE = 0.8
RIVAL_LABEL = 0.4  # a second label with this share of the first one's score leaves the name open
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
        Everything that the detector took it for.
    sure : bool
        Whether it certainly is there, is one object, and is what `label` says. The others are
        never described, but what is said of a sure object must be untrue for them too.
    doubtful : bool
        Whether it may well not be there at all.
    left, top, right, bottom : float
        Edges of the box, 0 to 1.
    shares : sequence of 11 float
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
        """Centre from the left."""
        return (self.left + self.right) / 2

    @property
    def y(self) -> float:
        """Centre from the top."""
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

    Boxes that overlap by more than `SAME_OBJECT_IOU` are one object, whatever their labels.
    """
    rows = table.image(image)
    frame = table.boxes[rows.start]
    here = np.arange(rows.start + 1, rows.stop)
    here = here[table.scores[here] >= MAYBE_SCORE]
    here = here[np.argsort(-table.scores[here], kind="stable")]
    here = here[[table.label(row) != WHOLE_IMAGE for row in here.tolist()]] if len(here) else here
    if not len(here):
        return []
    sides = np.tile(frame[2:] - frame[:2], 2)
    boxes = (table.boxes[here] - np.tile(frame[:2], 2)) / sides
    same = (pairwise_iou(boxes, boxes) > SAME_OBJECT_IOU).tolist()
    nested = (_covered(boxes) > NESTED_SHARE).tolist()
    labels = [table.label(row) for row in here.tolist()]
    scores = table.scores[here].tolist()
    shares = (table.colors[here] / 255).tolist()
    corners = boxes.tolist()

    groups: list[list[int]] = []
    whole = []  # whether a group is an object by itself
    for box in range(len(here)):
        home = next((group for group in groups if same[group[0]][box]), None)
        if home is not None:
            home.append(box)
            continue
        # A part of another box of its class, or a box around several: one of the two is wrong.
        apart = not any(
            nested[group[0]][box] and labels[group[0]] == labels[box] for group in groups
        )
        if apart or scores[box] >= SURE_SCORE:
            groups.append([box])
            whole.append(apart)
    objects = []
    for group, apart in zip(groups, whole, strict=True):
        best = group[0]
        left, top, right, bottom = corners[best]
        rivals = [box for box in group if labels[box] != labels[best]]
        sure = (
            apart
            and scores[best] >= SURE_SCORE
            and SMALLEST_AREA <= (right - left) * (bottom - top) <= LARGEST_AREA
            and all(scores[box] < RIVAL_LABEL * scores[best] for box in rivals)
        )
        named = frozenset(labels[box] for box in group)
        row = int(here[best])
        doubtful = scores[best] < SURE_SCORE
        objects.append(
            DetectedObject(
                row, labels[best], named, sure, doubtful, left, top, right, bottom, shares[best]
            )
        )
    return objects


def _covered(boxes: np.ndarray) -> np.ndarray:
    """Return which share of the smaller box of each pair lies in the larger one, (n, n)."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clip(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    covered: np.ndarray = shared / np.maximum(np.minimum.outer(areas, areas), 1e-9)
    return covered
