"""Where regions lie: by themselves, among regions of the same label, and towards each other."""

from __future__ import annotations

import torch

from .batches import ImageBatch

__all__ = ["PLACE_SIZE", "RELATION_SIZE", "pairwise_overlap", "places", "relations"]

_ORDINALS = 6
_RANK_WIDTH = 0.35
_DUPLICATE = 0.6
_TINY = 1e-4

PLACE_SIZE = 14 + 4 * (2 + _ORDINALS) + 2
"""Number of values that `places` returns for a region."""

RELATION_SIZE = 11
"""Number of values that `relations` returns for a pair."""


def pairwise_overlap(boxes: torch.Tensor) -> torch.Tensor:
    """Return the IoU of every two boxes of an image, (m, n, n) for boxes (m, n, 4)."""
    corner = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    end = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    shared = (end - corner).clamp(min=0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    return shared / (areas[:, :, None] + areas[:, None] - shared).clamp(min=_TINY**2)


def places(batch: ImageBatch, overlap: torch.Tensor) -> torch.Tensor:
    """Describe each region's place and size, absolutely and among its like, (m, n, PLACE_SIZE).

    "The second dog from the left" asks for a rank among the dogs. A rank here counts every other
    region of the label by the detector's confidence in it and leaves out duplicates of the region
    itself, so that a doubtful detection shifts it little.

    Parameters
    ----------
    batch : ImageBatch
        m images of n regions.
    overlap : tensor of shape (m, n, n)
        IoU of every two regions.
    """
    boxes, aspects = batch.boxes, batch.aspects[:, None]
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=_TINY)
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    width, height = sides.unbind(-1)
    area = width * height
    whole = torch.zeros_like(area)
    whole[:, 0] = 1
    absolute = [
        *boxes.unbind(-1), *centres.unbind(-1), width, height, area, area.sqrt(),
        (width * aspects / height).log(), aspects.log().expand_as(area), batch.scores, whole,
    ]  # fmt: skip
    alike = batch.labels[:, :, None] == batch.labels[:, None]
    others = alike & (overlap < _DUPLICATE) & batch.present[:, None]
    others[:, :, 0] = False
    weights = others * batch.scores[:, None]
    ranks = []
    # From the left, from the top, from the largest, from the lowest edge (the closest).
    for key in (centres[..., 0], centres[..., 1], -area, -boxes[..., 3]):
        before = (weights * (key[:, None] < key[:, :, None])).sum(-1)
        after = (weights * (key[:, None] > key[:, :, None])).sum(-1)
        ranks += [1 / (1 + before), 1 / (1 + after)]
        ranks += [_bump(before, number) for number in range(_ORDINALS // 2)]
        ranks += [_bump(after, number) for number in range(_ORDINALS // 2)]
    second = [_bump(weights.sum(-1), 0), 1 / (1 + weights.sum(-1))]
    described = torch.stack([*absolute, *ranks, *second], dim=-1)
    return described.masked_fill(~batch.present[..., None], 0)


def relations(batch: ImageBatch, overlap: torch.Tensor) -> torch.Tensor:
    """Describe how region j lies towards region i, (m, n, n, RELATION_SIZE).

    Parameters
    ----------
    batch : ImageBatch
        m images of n regions.
    overlap : tensor of shape (m, n, n)
        IoU of every two regions.
    """
    boxes = batch.boxes
    centres, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    shift = centres[:, None] - centres[:, :, None]
    span = ((sides[:, None] + sides[:, :, None]) / 2).clamp(min=_TINY)
    relative = (shift / span).clamp(-4, 4) / 4
    areas = sides.prod(-1).clamp(min=_TINY)
    larger = (areas[:, None] / areas[:, :, None]).log().clamp(-4, 4) / 4
    inside = overlap * (areas[:, None] + areas[:, :, None]) / (1 + overlap) / areas[:, :, None]
    alike = (batch.labels[:, :, None] == batch.labels[:, None]).float()
    itself = torch.eye(boxes.shape[1], device=boxes.device).expand_as(alike)
    distance = shift.square().sum(-1).sqrt()
    values = [
        *shift.unbind(-1), *relative.unbind(-1), distance, torch.exp(-8 * distance), larger,
        overlap, inside, alike, itself,
    ]  # fmt: skip
    return torch.stack(values, dim=-1)


def _bump(rank: torch.Tensor, number: int) -> torch.Tensor:
    return torch.exp(-(((rank - number) / _RANK_WIDTH) ** 2) / 2)
