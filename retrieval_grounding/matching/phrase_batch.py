"""Phrases as tensors: embeddings of their parts, their words, and the colors that they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..core.colors import COLORS
from ..core.phrases import Phrases
from .language.parse import parse_phrase
from .vocabulary import PADDING, UNKNOWN

__all__ = ["MAX_WORDS", "NOUN", "PARTS", "PhraseBatch", "make_phrase_batch"]


PARTS = 4
"""Embeddings of a phrase: the phrase, its target, the target's noun, and the landmark."""

MAX_WORDS = 16
"""Words of a phrase that are read; the later ones count only in its embedding."""

NOUN = 2
"""Which of the parts is the noun."""


@dataclass(frozen=True)
class PhraseBatch:
    """p phrases as tensors.

    Parameters
    ----------
    parts : float tensor of shape (p, PARTS, d)
        Unit length, or zeros where a phrase has no such part; part 0 is the phrase itself.
    present : float tensor of shape (p, PARTS)
        1 where the phrase has the part, else 0.
    words : int64 tensor of shape (p, w)
        Rows of the word embeddings, from :mod:`.vocabulary`.
    roles : int64 tensor of shape (p, w)
        What each word does; see :class:`.language.parts.Role`.
    colors : float tensor of shape (p, 11)
        1 for the colors that the target is said to have.
    """

    parts: torch.Tensor
    present: torch.Tensor
    words: torch.Tensor
    roles: torch.Tensor
    colors: torch.Tensor

    @property
    def embeddings(self) -> torch.Tensor:
        """Embeddings of the whole phrases, (p, d)."""
        return self.parts[:, 0]

    def to(self, device: torch.device) -> PhraseBatch:
        """Return the batch on a device."""
        if self.parts.device == device:
            return self
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})

    def first(self, count: int) -> PhraseBatch:
        """Return the first `count` phrases."""
        return replace(self, **{name: value[:count] for name, value in vars(self).items()})

    def without_words(self, dropped: torch.Tensor) -> PhraseBatch:
        """Return the batch with all words of the `dropped` phrases, (p,) bool, unknown."""
        known = self.words.masked_fill(dropped[:, None] & (self.words != PADDING), UNKNOWN)
        return replace(self, words=known)


def make_phrase_batch(phrases: Phrases, word_ids: Mapping[str, int]) -> PhraseBatch:
    """Return phrases as tensors on the CPU.

    Without embeddings of its parts, a phrase stands for its target and its noun as well.

    Parameters
    ----------
    phrases : Phrases
        p phrases.
    word_ids : mapping of str to int
        From :func:`.vocabulary.number_words`.
    """
    count = len(phrases)
    parsed = [parse_phrase(text) for text in phrases.texts]
    embeddings = np.asarray(phrases.embeddings, np.float32)[:, None]
    parts = phrases.parts
    if parts is None:
        parts = np.concatenate([embeddings, embeddings, np.zeros_like(embeddings)], axis=1)
    parts = np.concatenate([embeddings, np.asarray(parts, np.float32)], axis=1)
    spoken = [
        [(word_ids.get(word, UNKNOWN), int(role)) for word, role in part.spoken][:MAX_WORDS]
        for part in parsed
    ]
    longest = max([1, *map(len, spoken)])
    numbers = np.zeros((2, count, longest), np.int64)
    colors = np.zeros((count, len(COLORS)), np.float32)
    for row, (pairs, part) in enumerate(zip(spoken, parsed, strict=True)):
        for place, pair in enumerate(pairs):
            numbers[:, row, place] = pair
        colors[row, list(part.colors)] = 1
    return PhraseBatch(
        parts=torch.from_numpy(parts),
        present=torch.from_numpy(parts.any(axis=-1).astype(np.float32)),
        words=torch.from_numpy(numbers[0]),
        roles=torch.from_numpy(numbers[1]),
        colors=torch.from_numpy(colors),
    )
