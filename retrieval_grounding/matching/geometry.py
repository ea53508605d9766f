"""Where regions lie: by themselves, among regions of the same label, and towards each other.

Pairs of regions are what there is most of, so each of their values is a plane (n, n) of its own,
written in place: a small network's time goes into moving values, not into multiplying them.
"""

from __future__ import annotations

import torch

from .batch import ImageBatch

__all__ = ["OVERLAP", "PLACE_SIZE", "RELATION_SIZE", "places", "relations"]


_ORDINALS = 3
_RANK_WIDTH = 0.35
_DUPLICATE = 0.6
_TINY = 1e-4

PLACE_SIZE = 14 + 4 * 2 * (1 + _ORDINALS) + 2
"""Number of values that `places` returns for a region."""

RELATION_SIZE = 9
"""Number of values that `relations` returns for a pair."""

_NEAR, _LARGER, OVERLAP, _INSIDE, _ALIKE = range(4, RELATION_SIZE)  # after shifts


def relations(batch: ImageBatch) -> torch.Tensor:
    """Describe how region j lies towards region i, (RELATION_SIZE, m, n, n).

    Their values are the shift to the right and down, as a share of the image and of the mean
    side of the two; how near it is, and how much larger; the IoU; the share of i that it covers;
    and whether it has the same label.

    Parameters
    ----------
    batch : ImageBatch
        m images of n regions.
    """
    corners, centres, sides = _spans(batch)
    starts, ends = corners[:2], corners[2:]
    area = sides[0] * sides[1]
    planes = corners.new_empty(RELATION_SIZE, *area.shape, area.shape[-1])
    own, other = _pairs(centres)
    shifts = torch.sub(other, own, out=planes[:2])
    own, other = _pairs(2 * sides)
    torch.div(shifts, own + other, out=planes[2:_NEAR]).clamp_(-1, 1)
    distance = torch.mul(shifts[0], shifts[0], out=planes[_NEAR])
    distance.addcmul_(shifts[1], shifts[1]).sqrt_().mul_(-8).exp_()
    own, other = _pairs(area.log() / 4)
    torch.sub(other, own, out=planes[_LARGER]).clamp_(-1, 1)
    meeting = torch.minimum(*_pairs(ends)).sub_(torch.maximum(*_pairs(starts))).clamp_(min=0)
    shared = meeting[0].mul_(meeting[1])
    own, other = _pairs(area)
    torch.div(shared, (own + other).sub_(shared), out=planes[OVERLAP])
    torch.div(shared, own, out=planes[_INSIDE])
    torch.eq(*_pairs(batch.labels.to(planes.dtype)), out=planes[_ALIKE])
    return planes


def places(batch: ImageBatch, related: torch.Tensor) -> torch.Tensor:
    """Describe each region's place and size, absolutely and among its like, (PLACE_SIZE, m, n).

    "The second dog from the left" asks for a rank among the dogs. A rank here counts every other
    region of the label by the detector's confidence in it and leaves out duplicates of the region
    itself, so that a doubtful detection shifts it little. Of two regions in the same place, each
    counts for half.

    Parameters
    ----------
    batch : ImageBatch
        m images of n regions.
    related : tensor of shape (RELATION_SIZE, m, n, n)
        Of `relations`.
    """
    corners, centres, sides = _spans(batch)
    width, height = sides
    area = width * height
    aspects = batch.aspects[:, None].expand_as(area)
    whole = torch.zeros_like(area)
    whole[:, 0] = 1
    single = [area, area.sqrt(), (width * aspects / height).log(), aspects.log(), batch.scores]

    counted = batch.scores * batch.present
    counted[:, 0] = 0  # the whole image
    weights = (related[OVERLAP] < _DUPLICATE) * counted[:, None]
    weights *= related[_ALIKE]
    alone = weights.sum(-1)
    # From the left, from the top, from the largest, from the lowest edge (the closest).
    own, other = _pairs(torch.stack([*centres, -area, -corners[3]]))
    told = (own - other).sign_()  # 1: the other is before it
    more = told.mul_(weights).sum(-1)
    ranks = torch.cat([alone + more, alone - more]) / 2
    bumps = [_bump(ranks, number) for number in range(_ORDINALS)]
    last = torch.stack([*single, whole, _bump(alone, 0), 1 / (1 + alone)])
    return torch.cat([corners, centres, sides, 1 / (1 + ranks), *bumps, last])


def _spans(batch: ImageBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return corners (4, m, n), centres (2, m, n) and sides (2, m, n), which are never zero."""
    corners = batch.boxes.movedim(-1, 0).contiguous()
    starts, ends = corners[:2], corners[2:]
    return corners, (starts + ends) / 2, (ends - starts).clamp(min=_TINY)


def _pairs(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return values (..., n) for every pair: those of the region itself, and of the other."""
    return values[..., :, None], values[..., None, :]


def _bump(rank: torch.Tensor, number: int) -> torch.Tensor:
    return (rank - number).square_().mul_(-0.5 / _RANK_WIDTH**2).exp_()
