"""Geometric features of regions: of each alone, among its label, and of each pair.

There are more pairs of regions than anything else, so each of their features is a plane (n, n) of
its own, written in place: a small network spends its time on moving values, not on multiplying.
"""

from __future__ import annotations

import torch

from .batch import ImageBatch
from .boxes import intersection

__all__ = [
    "OVERLAP",
    "POSITION_FEATURES",
    "RELATION_FEATURES",
    "position_features",
    "relation_features",
]


_ORDINALS = 3
_RANK_WIDTH = 0.35
_DUPLICATE_IOU = 0.6
_MIN_SIDE = 1e-4

POSITION_FEATURES = 14 + 4 * 2 * (1 + _ORDINALS) + 2
"""Number of values that `position_features` returns for a region."""

RELATION_FEATURES = 9
"""Number of values that `relation_features` returns for a pair."""

# Planes 0 to 3 are shifts.
_PROXIMITY, _SIZE_RATIO, OVERLAP, _COVERED, _SAME_LABEL = range(4, RELATION_FEATURES)


def relation_features(batch: ImageBatch) -> torch.Tensor:
    """Describe where region j is relative to region i, (RELATION_FEATURES, m, n, n).

    The features are the shift to the right and down, as a share of the image and of the mean side
    of the two; the proximity; the log ratio of their areas; the IoU; the share of i that j covers;
    and whether both have the same label.

    Parameters
    ----------
    batch : ImageBatch
        m images of n regions.
    """
    corners, centers, sides = _corners_centers_sides(batch)
    areas = sides[0] * sides[1]
    planes = corners.new_empty(RELATION_FEATURES, *areas.shape, areas.shape[-1])
    first, second = _pairs(centers)
    shifts = torch.sub(second, first, out=planes[:2])
    first, second = _pairs(2 * sides)
    torch.div(shifts, first + second, out=planes[2:_PROXIMITY]).clamp_(-1, 1)
    squares = torch.mul(shifts[0], shifts[0], out=planes[_PROXIMITY])
    squares.addcmul_(shifts[1], shifts[1]).sqrt_().mul_(-8).exp_()  # exp(-8 · distance)
    first, second = _pairs(areas.log() / 4)
    torch.sub(second, first, out=planes[_SIZE_RATIO]).clamp_(-1, 1)
    shared = intersection(*_pairs(corners))
    first, second = _pairs(areas)
    torch.div(shared, (first + second).sub_(shared), out=planes[OVERLAP])
    torch.div(shared, first, out=planes[_COVERED])
    torch.eq(*_pairs(batch.labels.to(planes.dtype)), out=planes[_SAME_LABEL])
    return planes


def position_features(batch: ImageBatch, relations: torch.Tensor) -> torch.Tensor:
    """Describe each region's position and size, absolute and by rank, (POSITION_FEATURES, m, n).

    "The second dog from the left" asks for a rank among the dogs. A rank counts every other region
    of the label by the detector's confidence in it and leaves out duplicates of the region itself,
    so a doubtful detection shifts it little. Two regions in the same place each count for half.

    Parameters
    ----------
    batch : ImageBatch
        m images of n regions.
    relations : tensor of shape (RELATION_FEATURES, m, n, n)
        From `relation_features`.
    """
    corners, centers, sides = _corners_centers_sides(batch)
    width, height = sides
    area = width * height
    image_aspect = batch.aspects[:, None].expand_as(area)
    is_whole_image = torch.zeros_like(area)
    is_whole_image[:, 0] = 1
    aspect = (width * image_aspect / height).log()

    confidence = batch.scores * batch.present
    confidence[:, 0] = 0  # the whole image
    weights = (relations[OVERLAP] < _DUPLICATE_IOU) * confidence[:, None]
    weights *= relations[_SAME_LABEL]
    others = weights.sum(-1)
    # Ranks from the left, from the top, from the largest, and from the lowest edge (the closest).
    first, second = _pairs(torch.stack([*centers, -area, -corners[3]]))
    order = (first - second).sign_()  # 1 where the second region comes before the first
    balance = order.mul_(weights).sum(-1)
    ranks = torch.cat([others + balance, others - balance]) / 2

    ordinals = [_soft_equal(ranks, number) for number in range(_ORDINALS)]
    single = torch.stack(
        [
            area,
            area.sqrt(),
            aspect,
            image_aspect.log(),
            batch.scores,
            is_whole_image,
            _soft_equal(others, 0),
            1 / (1 + others),
        ]
    )
    return torch.cat([corners, centers, sides, 1 / (1 + ranks), *ordinals, single])


def _corners_centers_sides(
    batch: ImageBatch,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return corners (4, m, n), centers (2, m, n) and sides (2, m, n), which are never zero."""
    corners = batch.boxes.movedim(-1, 0).contiguous()
    starts, ends = corners[:2], corners[2:]
    return corners, (starts + ends) / 2, (ends - starts).clamp(min=_MIN_SIDE)


def _pairs(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return values (..., n) as those of the first and of the second region of every pair."""
    return values[..., :, None], values[..., None, :]


def _soft_equal(ranks: torch.Tensor, number: int) -> torch.Tensor:
    """Return a Gaussian bump, 1 where a rank equals `number`."""
    return (ranks - number).square_().mul_(-0.5 / _RANK_WIDTH**2).exp_()
