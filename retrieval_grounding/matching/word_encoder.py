"""Reading the words of a phrase: a small transformer whose states regions attend to."""

from __future__ import annotations

import math

import torch
from torch import nn

from .language.parts import Role
from .phrase_batch import MAX_WORDS, PhraseBatch
from .vocabulary import PADDING

__all__ = ["WordEncoder"]


_HEADS = 2
_SPECIAL_ROWS = 2  # padding and unknown words
_INITIAL_SPREAD = 0.3


class WordEncoder(nn.Module):
    """States of the words of phrases, computed once for each phrase.

    A pooled vector hardly tells "man left of bus" from "bus left of man"; words with their roles
    and their order do.

    Parameters
    ----------
    words : int
        Size of the vocabulary.
    width : int
        Length of a state.
    """

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.word = nn.Embedding(words + _SPECIAL_ROWS, width, padding_idx=PADDING)
        self.place = nn.Embedding(MAX_WORDS, width)
        self.role = nn.Embedding(len(Role), width)
        for table in (self.word, self.place, self.role):
            nn.init.normal_(table.weight, std=_INITIAL_SPREAD)
        self.norm = nn.LayerNorm(width)
        self.joint = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.think = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        self.last = nn.LayerNorm(width)

    def forward(self, phrases: PhraseBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the states of the words, (p, w, width), and their mean, (p, width)."""
        count, length = phrases.words.shape
        places = self.place.weight[:length]
        hidden = self.word(phrases.words) + places + self.role(phrases.roles)
        query, key, value = (
            part.view(count, length, _HEADS, -1).transpose(1, 2)
            for part in self.joint(self.norm(hidden)).chunk(3, dim=-1)
        )
        present = self.present(phrases)
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        shares = scores.masked_fill(~present[:, None, None], -torch.inf).softmax(-1)
        gathered = (shares @ value).transpose(1, 2).reshape(hidden.shape)
        hidden = hidden + self.out(gathered)
        states = self.last(hidden + self.think(hidden))
        weights = present[..., None].to(states.dtype)
        return states, (states * weights).sum(1) / weights.sum(1)

    @staticmethod
    def present(phrases: PhraseBatch) -> torch.Tensor:
        """Return which words there are, bool (p, w); a phrase without words has its padding."""
        present = phrases.words != PADDING
        first = torch.zeros_like(present)
        first[:, 0] = True
        return present | first
