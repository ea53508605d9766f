"""Ranks among the regions that a phrase's noun fits: "the second dog from the left".

The detector's labels serve for its own classes only. Here every region of the image counts by how
well the noun fits it, so that "second cyclist from the left" has a rank as well.
"""

from __future__ import annotations

import torch
from torch import nn

from .batch import ImageBatch
from .geometry import OVERLAP
from .image_pass import ORDERS

__all__ = ["RANK_FEATURES", "NounRanks", "order_values"]


_ORDINALS = 3
_RANK_VARIANCE = 0.125
_DUPLICATE_IOU = 0.6
_LEAST_SCORE = 0.02

RANK_FEATURES = 2 * ORDERS * (1 + _ORDINALS)
"""Number of values that `NounRanks` returns for a region."""


class NounRanks(nn.Module):
    """Soft ranks of regions: from the left, from the top, by size, and by the lower edge."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(1.5))
        self.margin = nn.Parameter(torch.tensor(1.0))
        self.trust = nn.Parameter(torch.tensor(0.5))

    @staticmethod
    def orders(images: ImageBatch, relations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what does not depend on the phrase.

        Parameters
        ----------
        images : ImageBatch
            m images of n regions.
        relations : tensor of shape (RELATION_FEATURES, m, n, n)
            From :func:`.geometry.relation_features`.

        Returns
        -------
        orders : tensor of shape (m, 1 + 4, n, n)
            Plane 0: whether region j is another thing than region i. The others: 1 where j comes
            before i, -1 where it comes after.
        counted : tensor of shape (m, n)
            The detector's confidence in single things, 0 for whole images, groups and padding.
        """
        values = order_values(images)
        other = (relations[OVERLAP] < _DUPLICATE_IOU).to(values.dtype)[:, None]
        before = (values[..., :, None] - values[..., None, :]).sign() * other
        single = images.present & ~images.groups
        single[:, 0] = False
        return torch.cat([other, before], 1), images.scores.clamp(min=_LEAST_SCORE) * single

    def forward(
        self, fit: torch.Tensor, orders: torch.Tensor, counted: torch.Tensor
    ) -> torch.Tensor:
        """Return the ranks of regions, (k, n, RANK_FEATURES).

        Parameters
        ----------
        fit : tensor of shape (k, n)
            How well the noun fits each region of k pairs of phrase and image, standardized.
        orders : tensor of shape (k, 1 + 4, n, n)
        counted : tensor of shape (k, n)
            From `orders`.
        """
        best = fit.masked_fill(counted == 0, -1e4).amax(1, keepdim=True)
        likely = self.likely(fit, best, counted)
        sums = (orders @ likely[:, None, :, None]).squeeze(-1)
        others, balance = sums[:, :1], sums[:, 1:]
        ranks = torch.cat([others + balance, others - balance], 1).movedim(1, -1) / 2
        return self.features(ranks)

    def likely(self, fit: torch.Tensor, best: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Return how much each region counts as one of the things that the noun names.

        Parameters
        ----------
        fit, best : tensors of the same or of broadcastable shapes
            How well the noun fits, and how well it fits the best region of the image that counts.
        counted : tensor of the shape of `fit`
            From `orders`.
        """
        likely = torch.sigmoid(self.sharpness.exp() * (fit - best + self.margin))
        return likely * counted.clamp(min=1e-6).pow(self.trust.abs()) * (counted > 0)

    @staticmethod
    def features(ranks: torch.Tensor) -> torch.Tensor:
        """Return the features of ranks, which have 2 · ORDERS values along the last dimension."""
        ordinals = torch.cat([ranks - number for number in range(_ORDINALS)], -1)
        ordinals = ordinals.square().mul(-0.5 / _RANK_VARIANCE).exp()
        return torch.cat([1 / (1 + ranks), ordinals], -1)

    @staticmethod
    def write_features(others: torch.Tensor, balance: torch.Tensor, out: torch.Tensor) -> None:
        """Write the features of n regions into `out`, (RANK_FEATURES, n).

        Parameters
        ----------
        others, balance : tensors of shape (n,) and (ORDERS, n)
            The sums of :meth:`forward`; ranks are half of what they add up to.
        """
        count = 2 * ORDERS
        nearness, ordinals = out[:count], out[count:]
        doubled = ordinals[:count]
        torch.add(others, balance, out=doubled[:ORDERS])
        torch.sub(others, balance, out=doubled[ORDERS:])
        torch.add(doubled, 2, out=nearness).reciprocal_().mul_(2)
        for number in range(1, _ORDINALS):
            start = count * number
            torch.sub(doubled, 2 * number, out=ordinals[start : start + count])
        ordinals.square_().mul_(-0.125 / _RANK_VARIANCE).exp_()


def order_values(images: ImageBatch) -> torch.Tensor:
    """Return what regions are ordered by, smallest first, (m, ORDERS, n)."""
    starts, ends = images.boxes[..., :2], images.boxes[..., 2:]
    centers, area = (starts + ends) / 2, (ends - starts).prod(-1)
    return torch.stack([centers[..., 0], centers[..., 1], -area, -images.boxes[..., 3]], 1)
