"""Geometric features of regions: of each alone, among its label, and of each pair.

There are more pairs of regions than anything else, so each of their features is a plane (n, n) of
its own, written in place: a small network spends its time on moving values, not on multiplying.
"""

from __future__ import annotations

import numpy as np
import torch

from .batch import ImageBatch
from .boxes import intersection

__all__ = [
    "MEASURES",
    "OVERLAP",
    "POSITION_FEATURES",
    "RELATION_FEATURES",
    "between",
    "measure",
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

MEASURES = 11
"""Number of values of a region that `relation_features` needs."""

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
    measures = measure(batch.boxes.movedim(-1, 0), batch.labels)
    return _relations(*_pairs(measures))


def measure(corners: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return what relations are computed of, (MEASURES, ...).

    Corners, centers, twice the sides, area, a fourth of its logarithm, and label.

    Parameters
    ----------
    corners, labels : tensors of shape (4, ...) and (...)
        Of regions, as in :class:`.batch.ImageBatch`.
    """
    centers, sides, area = _measures(corners)
    single = torch.stack([area, area.log() / 4, labels.to(corners.dtype)])
    return torch.cat([corners, centers, 2 * sides, single])


def between(measures: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Describe where regions are relative to others, (RELATION_FEATURES, m, k, n).

    Parameters
    ----------
    measures : tensor of shape (MEASURES, r)
        From :func:`measure`, of all regions.
    first, second : int64 tensors of shape (m, k) and (m, n)
        Rows: the second regions are described relative to the first of the same image.
    """
    one = measures.index_select(1, first.flatten()).view(MEASURES, *first.shape, 1)
    other = measures.index_select(1, second.flatten()).view(MEASURES, len(second), 1, -1)
    return _relations(one, other)


def _relations(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the features of pairs: `first` (MEASURES, ..., k, 1), `second` (..., 1, n)."""
    center, side, (area, log_area, label) = first[4:6], first[6:8], first[8:]
    other_center, other_side, (other_area, other_log, other_label) = (
        second[4:6], second[6:8], second[8:],
    )  # fmt: skip
    shape = np.broadcast_shapes(area.shape, other_area.shape)
    planes = first.new_empty(RELATION_FEATURES, *shape)
    shifts = torch.sub(other_center, center, out=planes[:2])
    torch.div(shifts, side + other_side, out=planes[2:_PROXIMITY]).clamp_(-1, 1)
    squares = torch.mul(shifts[0], shifts[0], out=planes[_PROXIMITY])
    squares.addcmul_(shifts[1], shifts[1]).sqrt_().mul_(-8).exp_()  # exp(-8 · distance)
    torch.sub(other_log, log_area, out=planes[_SIZE_RATIO]).clamp_(-1, 1)
    shared = intersection(first[:4], second[:4])
    torch.div(shared, (area + other_area).sub_(shared), out=planes[OVERLAP])
    torch.div(shared, area, out=planes[_COVERED])
    torch.eq(label, other_label, out=planes[_SAME_LABEL])
    return planes


def _measures(corners: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return centers (2, ...), sides (2, ...), which are never zero, and areas (...)."""
    starts, ends = corners[:2], corners[2:]
    sides = (ends - starts).clamp(min=_MIN_SIDE)
    return (starts + ends) / 2, sides, sides[0] * sides[1]


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
    corners = batch.boxes.movedim(-1, 0).contiguous()
    centers, sides, area = _measures(corners)
    width, height = sides
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


def _pairs(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return values (..., n) as those of the first and of the second region of every pair."""
    return values[..., :, None], values[..., None, :]


def _soft_equal(ranks: torch.Tensor, number: int) -> torch.Tensor:
    """Return a Gaussian bump, 1 where a rank equals `number`."""
    return (ranks - number).square_().mul_(-0.5 / _RANK_WIDTH**2).exp_()
