"""Attention over an image's regions, biased by their relative positions."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .geometry import RELATION_FEATURES

__all__ = ["RelationAttention"]


_HEADS = 2
_PAIR_WIDTH = 12  # hidden units for each pair of regions; few, because there are many pairs


class RelationAttention(nn.Module):
    """Multi-head attention with a learned relative position bias.

    Parameters
    ----------
    width : int
        Length of the regions' vectors.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.joint = nn.Linear(width, 3 * width, bias=False)
        self.first = nn.Linear(RELATION_FEATURES, _PAIR_WIDTH)
        self.second = nn.Linear(_PAIR_WIDTH, _HEADS, bias=False)  # softmax would cancel a bias
        self.out = nn.Linear(width, width)

    def position_bias(self, relations: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Return the bias (m, heads, n, n), minus infinity toward padding.

        Parameters
        ----------
        relations : tensor of shape (RELATION_FEATURES, m, n, n)
            From :func:`retrieval_grounding.matching.geometry.relation_features`.
        present : bool tensor of shape (m, n)
            False in padding.
        """
        planes = relations.flatten(2).movedim(1, 0)
        # One product per image: a single product over all of them is too thin to be fast.
        per_image = len(planes), -1, -1
        hidden = torch.bmm(self.first.weight.expand(per_image), planes)
        hidden = hidden.add_(self.first.bias[:, None]).relu_()
        bias = torch.bmm(self.second.weight.expand(per_image), hidden)
        bias = bias.view(*bias.shape[:2], *relations.shape[2:])
        return bias.masked_fill_(~present[:, None, None], -torch.inf)

    def forward(
        self, hidden: torch.Tensor, phrase_query: torch.Tensor, position_bias: torch.Tensor
    ) -> torch.Tensor:
        """Return what each region gathers from the others, (k, n, width).

        Parameters
        ----------
        hidden : tensor of shape (k, n, width)
            The n regions of k pairs of phrase and image.
        phrase_query : tensor of shape (k, width)
            Added to the query of every region.
        position_bias : tensor of shape (k, heads, n, n)
            From `position_bias`.
        """
        pairs, count, width = hidden.shape
        query, key, value = self.joint(self.norm(hidden)).chunk(3, dim=-1)
        query, key, value = (
            part.view(pairs, count, _HEADS, -1).transpose(1, 2)
            for part in (query + phrase_query[:, None], key, value)
        )
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=position_bias
        )
        gathered: torch.Tensor = self.out(attended.transpose(1, 2).reshape(pairs, count, width))
        return gathered
