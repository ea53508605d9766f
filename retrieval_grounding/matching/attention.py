"""Attention over an image's regions, biased by their relative positions."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .geometry import RELATION_FEATURES

__all__ = ["HEADS", "RelationAttention"]


HEADS = 2

_PAIR_WIDTH = 12  # hidden units for each pair of regions; few, because there are many pairs


class RelationAttention(nn.Module):
    """Multi-head attention whose relative position bias depends on the phrase.

    "Left of the bus" and "next to the bus" send a region to look in different directions: the
    phrase weighs the hidden units that describe a pair of regions.

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
        self.second = nn.Linear(_PAIR_WIDTH, HEADS, bias=False)  # softmax would cancel a bias
        self.relation = nn.Linear(width, _PAIR_WIDTH)
        self.out = nn.Linear(width, width)

    def encode_pairs(self, relations: torch.Tensor) -> torch.Tensor:
        """Return what does not depend on the phrase: hidden units, (m, units, n · n).

        Parameters
        ----------
        relations : tensor of shape (RELATION_FEATURES, m, n, n)
            From :func:`retrieval_grounding.matching.geometry.relation_features`.
        """
        planes = relations.flatten(2).movedim(1, 0)
        # One product per image: a single product over all of them is too thin to be fast.
        weight = self.first.weight.expand(len(planes), -1, -1)
        return torch.bmm(weight, planes).add_(self.first.bias[:, None]).relu_()

    def forward(
        self,
        hidden: torch.Tensor,
        phrase_query: torch.Tensor,
        words: torch.Tensor,
        pairs: torch.Tensor,
        present: torch.Tensor,
    ) -> torch.Tensor:
        """Return what each region gathers from the others, (k, n, width).

        Parameters
        ----------
        hidden : tensor of shape (k, n, width)
            The n regions of k pairs of phrase and image.
        phrase_query : tensor of shape (k, width)
            Added to the query of every region.
        words : tensor of shape (k, width)
            Mean state of the phrase's words.
        pairs : tensor of shape (k, units, n · n)
            From `encode_pairs`.
        present : bool tensor of shape (k, n)
            False in padding.
        """
        count, regions, _ = hidden.shape
        query, key, value = self.joint(self.norm(hidden)).chunk(3, dim=-1)
        query, key, value = (
            part.view(count, regions, HEADS, -1).transpose(1, 2)
            for part in (query + phrase_query[:, None], key, value)
        )
        bias = torch.bmm(self.pair_weights(words), pairs).view(count, HEADS, regions, regions)
        bias = bias.masked_fill(~present[:, None, None], -torch.inf)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        gathered: torch.Tensor = self.out(attended.transpose(1, 2).reshape(hidden.shape))
        return gathered

    def pair_weights(self, words: torch.Tensor) -> torch.Tensor:
        """Return what the hidden units of pairs count for each phrase, (k, heads, units).

        Parameters
        ----------
        words : tensor of shape (k, width)
            Mean state of the phrase's words.
        """
        weights: torch.Tensor = self.second.weight * (1 + self.relation(words))[:, None]
        return weights
