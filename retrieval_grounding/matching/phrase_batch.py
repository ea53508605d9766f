"""Phrases as tensors: embeddings of their parts, their words, and the colors that they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from ..core.colors import COLORS
from ..core.phrases import Phrases
from .language.parse import parse_phrase
from .language.parts import PhraseParts
from .vocabulary import PADDING, UNKNOWN

__all__ = ["MAX_WORDS", "NOUN", "PARTS", "PhraseBatch", "PhraseTable", "make_phrase_batch"]


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

    def take(self, rows: torch.Tensor) -> PhraseBatch:
        """Return the phrases of `rows`, int64 (r,)."""
        columns = {name: value.index_select(0, rows) for name, value in vars(self).items()}
        return replace(self, **columns)

    def without_words(self, dropped: torch.Tensor) -> PhraseBatch:
        """Return the batch with all words of the `dropped` phrases, (p,) bool, unknown."""
        known = self.words.masked_fill(dropped[:, None] & (self.words != PADDING), UNKNOWN)
        return replace(self, words=known)


class PhraseTable:
    """Phrases from which batches are cut; each is read once, when a batch first needs it.

    Parameters
    ----------
    phrases : Phrases
        p phrases. Without embeddings of its parts, a phrase stands for its target and its noun as
        well.
    word_ids : mapping of str to int
        From :func:`.vocabulary.number_words`.
    """

    def __init__(self, phrases: Phrases, word_ids: Mapping[str, int]) -> None:
        count = len(phrases)
        self.phrases = phrases
        self._word_ids = word_ids
        self._numbers = np.zeros((2, count, MAX_WORDS), np.int64)  # words and their roles
        self._lengths = np.full(count, -1)  # -1 before the phrase is read
        self._colors = np.zeros((count, len(COLORS)), np.float32)

    @property
    def size(self) -> int:
        """Bytes that the batch of all phrases takes."""
        dimension: int = self.phrases.embeddings.shape[1]
        return 4 * len(self.phrases) * (PARTS * (dimension + 1) + 4 * MAX_WORDS + len(COLORS))

    def take(self, rows: npt.NDArray[np.integer]) -> PhraseBatch:
        """Return the phrases of `rows`, (r,), on the CPU."""
        unread = rows[self._lengths[rows] < 0]
        for row in np.unique(unread).tolist():
            self.read(row)
        longest = max(1, self._lengths[rows].max(initial=1))
        embeddings = np.asarray(self.phrases.embeddings[rows], np.float32)[:, None]
        if self.phrases.parts is None:
            others = [embeddings, embeddings, np.zeros_like(embeddings)]
        else:
            others = [np.asarray(self.phrases.parts[rows], np.float32)]
        parts = np.concatenate([embeddings, *others], axis=1)
        words, roles = self._numbers[:, rows, :longest]
        return PhraseBatch(
            parts=torch.from_numpy(parts),
            present=torch.from_numpy(parts.any(axis=-1).astype(np.float32)),
            words=torch.from_numpy(words),
            roles=torch.from_numpy(roles),
            colors=torch.from_numpy(self._colors[rows]),
        )

    def read(self, row: int) -> PhraseParts:
        """Read a phrase, and return its parts."""
        parsed = parse_phrase(self.phrases.texts[row])
        spoken = parsed.spoken[:MAX_WORDS]
        self._lengths[row] = len(spoken)
        for place, (word, role) in enumerate(spoken):
            self._numbers[:, row, place] = self._word_ids.get(word, UNKNOWN), int(role)
        self._colors[row, list(parsed.colors)] = 1
        return parsed


def make_phrase_batch(phrases: Phrases, word_ids: Mapping[str, int]) -> PhraseBatch:
    """Return all of some phrases as tensors on the CPU; see :class:`PhraseTable`."""
    return PhraseTable(phrases, word_ids).take(np.arange(len(phrases)))
