"""Box arithmetic on tensors: mirrored boxes, and the area that boxes share."""

from __future__ import annotations

import torch

__all__ = ["box_iou", "intersection", "mirror_boxes"]


def mirror_boxes(boxes: torch.Tensor) -> torch.Tensor:
    """Return boxes (..., 4) swapped left and right, in fractions of the image's sides.

    Examples
    --------
    >>> mirror_boxes(torch.tensor([0.0, 0.25, 0.25, 0.5])).tolist()
    [0.75, 0.25, 1.0, 0.5]
    """
    left, top, right, bottom = boxes.unbind(-1)
    return torch.stack([1 - right, top, 1 - left, bottom], dim=-1)


def intersection(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the area that boxes share.

    Parameters
    ----------
    first, second : tensors of shape (4, ...)
        Corners ``x1, y1, x2, y2`` come first, each a plane of its own; the rest broadcasts.
    """
    starts = torch.maximum(first[:2], second[:2])
    sides = torch.minimum(first[2:], second[2:]).sub_(starts).clamp_(min=0)
    return sides[0].mul_(sides[1])


def box_iou(targets: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Return the IoU (e, n) of each target (e, 4) with the n boxes of its image (e, n, 4)."""
    shared = intersection(targets.T[..., None], boxes.movedim(-1, 0))
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    target_areas = (targets[:, 2:] - targets[:, :2]).prod(-1)
    return shared / (areas + target_areas[:, None] - shared).clamp(min=1e-9)
