"""Claims about groups: the region that shows all objects of a label, and how many they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ...core.groups import is_group, member_label
from ...core.region_table import RegionTable
from ...core.regions import pairwise_iou
from .claims import LONGEST_ROW, Claim
from .objects import LARGEST_AREA, DetectedObject
from .pools import label_pool

__all__ = ["group_claims"]


WHOLE_GROUP_IOU = 0.8  # of a group's box and the union of its objects


def group_claims(
    table: RegionTable, image: int, objects: Sequence[DetectedObject]
) -> Iterator[Claim]:
    """Yield a claim for each group region of an image that may be described.

    Such a group has at least two sure objects and does not fill the image, and its box is about the
    same whether doubtful objects belong to it or not. The rank of its claim is the number of its
    objects, or 0 if that is not certain or more than people count.

    Parameters
    ----------
    table : RegionTable
        The regions of several images.
    image : int
        Number of the image.
    objects : sequence of DetectedObject
        All objects of the image, none of which is a group.
    """
    rows = table.image(image)
    frame = table.boxes[rows.start]
    corner, sides = np.tile(frame[:2], 2), np.tile(frame[2:] - frame[:2], 2)
    for row in range(rows.start + 1, rows.stop):
        label = table.label(row)
        if not is_group(label):
            continue
        pool = label_pool(objects, frozenset([member_label(label)]))
        if len(pool.sure) < 2:
            continue
        box = (table.boxes[row] - corner) / sides
        unions = np.stack([_union(pool.sure), _union(pool.maybe)])
        if pairwise_iou(box, unions).min() < WHOLE_GROUP_IOU:
            continue
        left, top, right, bottom = box.tolist()
        target = DetectedObject(
            row=row,
            label=label,
            labels=frozenset([label]),
            sure=True,
            doubtful=False,
            left=left,
            top=top,
            right=right,
            bottom=bottom,
            shares=(table.colors[row] / 255).tolist(),
        )
        if target.area <= LARGEST_AREA:
            certain = len(pool.maybe) == len(pool.sure) <= LONGEST_ROW
            yield Claim(target, pool, "group", rank=len(pool.sure) if certain else 0)


def _union(things: Sequence[DetectedObject]) -> npt.NDArray[np.float64]:
    edges = np.array([(thing.left, thing.top, thing.right, thing.bottom) for thing in things])
    return np.concatenate([edges[:, :2].min(axis=0), edges[:, 2:].max(axis=0)])
