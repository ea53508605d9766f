"""Non-maximum suppression that asks the device for one result per batch of images."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

__all__ = ["suppress"]

_CLASS_OFFSET = 7680  # pixels that separate the classes; more than an input has
_LEAST_CANDIDATES = 256
_CANDIDATES_PER_BOX = 4


def suppress(
    outputs: torch.Tensor,
    classes: int,
    *,
    confidence: float,
    iou: float,
    most: int,
    kept_classes: Collection[int] | None = None,
    one_box_a_thing: bool = False,
) -> list[npt.NDArray[np.float32]]:
    """Return the boxes of each image that no stronger one of its class overlaps.

    The same as ultralytics' ``non_max_suppression``, which asks the device six times an image
    what is left, and waits each time. Here the strongest candidates of all images come to the CPU
    in one copy. Boxes are kept in the order of their scores, so whether one is kept depends on
    stronger ones alone: if `most` of the candidates are kept, no others have to be looked at.

    Parameters
    ----------
    outputs : tensor of shape (b, 4 + classes + more, n)
        Of a YOLO without end-to-end head: centers and sides in pixels, and scores of classes.
    classes : int
        Number of classes.
    confidence, iou : float
        Boxes with lower scores, or a larger overlap with a stronger one, are left out.
    most : int
        Boxes to keep of an image.
    kept_classes : collection of int, optional
        Classes to keep; all by default.
    one_box_a_thing : bool
        Whether boxes of different classes compete.

    Returns
    -------
    list of float32 arrays of shape (k, 6)
        Corners in pixels, score and class, strongest first.
    """
    import torch

    scores, labels = outputs[:, 4 : 4 + classes].float().max(1)
    if kept_classes is not None:
        kept = torch.zeros(classes, dtype=torch.bool)
        kept[list(kept_classes)] = True
        scores = torch.where(kept.to(labels.device)[labels], scores, -1.0)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    count = max(_LEAST_CANDIDATES, _CANDIDATES_PER_BOX * most)
    while True:
        rows = order[:, :count]
        boxes = outputs[:, :4].gather(2, rows[:, None].expand(-1, 4, -1)).float().transpose(1, 2)
        columns = [boxes, scores[:, :count, None], labels.gather(1, rows)[..., None].float()]
        candidates = torch.cat(columns, 2).cpu()
        found = [_suppress_one(rows, confidence, iou, one_box_a_thing) for rows in candidates]
        undecided = (
            len(kept_rows) < most and bool(rows[-1, 4] > confidence)
            for kept_rows, rows in zip(found, candidates, strict=True)
        )
        if count >= order.shape[1] or not any(undecided):
            return [rows[:most].numpy() for rows in found]
        count *= 8


def _suppress_one(
    rows: torch.Tensor, confidence: float, iou: float, one_box_a_thing: bool
) -> torch.Tensor:
    """Return the rows to keep of one image's candidates, strongest first."""
    import torch
    from torchvision.ops import nms

    rows = rows[rows[:, 4] > confidence]
    half = rows[:, 2:4] / 2
    corners = torch.cat([rows[:, :2] - half, rows[:, :2] + half], 1)
    offsets = rows[:, 5:6] * (0 if one_box_a_thing else _CLASS_OFFSET)
    kept = nms(corners + offsets, rows[:, 4], iou)
    return torch.cat([corners, rows[:, 4:]], 1)[kept]
