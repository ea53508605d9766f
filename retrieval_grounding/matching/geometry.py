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
    left, top, right, bottom = boxes.unbind(-1)
    width = torch.minimum(*_pairs(right)) - torch.maximum(*_pairs(left))
    height = torch.minimum(*_pairs(bottom)) - torch.maximum(*_pairs(top))
    shared = width.clamp(min=0) * height.clamp(min=0)
    own, other = _pairs((right - left) * (bottom - top))
    return shared / (own + other - shared).clamp(min=_TINY**2)


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
    # From the left, from the top, from the largest, from the lowest edge (the closest).
    keys = torch.stack([centres[..., 0], centres[..., 1], -area, -boxes[..., 3]], dim=1)
    sides_of = (keys[..., :, None] - keys[..., None, :]).sign_()  # 1: the other is before it
    told = weights[:, None] * sides_of
    more, both = told.sum(-1), (told * sides_of).sum(-1)
    ranks = torch.stack([(both + more) / 2, (both - more) / 2], dim=-1)  # before, and after
    numbers = torch.arange(_ORDINALS // 2, device=boxes.device)
    bumps = _bump(ranks[..., None], numbers).flatten(-2)
    ranks = torch.cat([1 / (1 + ranks), bumps], dim=-1).transpose(1, 2).flatten(2)
    alone = weights.sum(-1)
    second = [_bump(alone, 0), 1 / (1 + alone)]
    parts = [torch.stack(absolute, dim=-1), ranks, torch.stack(second, dim=-1)]
    return torch.cat(parts, dim=-1) * batch.present[..., None]


def relations(batch: ImageBatch, overlap: torch.Tensor) -> torch.Tensor:
    """Describe how region j lies towards region i, (m, RELATION_SIZE, n, n).

    One plane for each value, since pairs are what there is most of: planes are made and
    multiplied without strides.

    Parameters
    ----------
    batch : ImageBatch
        m images of n regions.
    overlap : tensor of shape (m, n, n)
        IoU of every two regions.
    """
    left, top, right, bottom = batch.boxes.unbind(-1)
    shifts, relative = [], []
    for start, end in ((left, right), (top, bottom)):
        own, other = _pairs((start + end) / 2)
        own_side, other_side = _pairs(end - start)
        span = ((other_side + own_side) / 2).clamp(min=_TINY)
        shifts.append(other - own)
        relative.append((shifts[-1] / span).clamp(-4, 4) / 4)
    own, other = _pairs(((right - left) * (bottom - top)).clamp(min=_TINY))
    larger = (other / own).log().clamp(-4, 4) / 4
    inside = overlap * (other + own) / (1 + overlap) / own
    own_label, other_label = _pairs(batch.labels)
    alike = (own_label == other_label).to(overlap.dtype)
    itself = torch.eye(left.shape[1], device=left.device).expand_as(alike)
    distance = (shifts[0].square() + shifts[1].square()).sqrt()
    values = [
        *shifts, *relative, distance, torch.exp(-8 * distance), larger, overlap, inside, alike,
        itself,
    ]  # fmt: skip
    return torch.stack(values, dim=1)


def _pairs(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return values (m, n) for every pair: those of the region itself, and of the other."""
    return values[:, :, None], values[:, None]


def _bump(rank: torch.Tensor, number: int | torch.Tensor) -> torch.Tensor:
    return torch.exp(-(((rank - number) / _RANK_WIDTH) ** 2) / 2)
