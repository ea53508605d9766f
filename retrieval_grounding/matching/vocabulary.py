"""Word counts of phrases: what an embedding of meaning says too softly, "left" against "right"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch

__all__ = ["count_words", "frequent_words", "words_of"]


def words_of(phrase: str) -> list[str]:
    """Return the words of a phrase and the pairs of neighbouring words.

    Examples
    --------
    >>> words_of("2nd dog, left")
    ['2nd', 'dog', 'left', '2nd dog', 'dog left']
    """
    words = re.findall(r"\w+", phrase.lower())
    return [*words, *(f"{first} {second}" for first, second in pairwise(words))]


def frequent_words(phrases: Iterable[str], least: int, most: int) -> list[str]:
    """Return the words and pairs that at least `least` phrases use, the `most` frequent first."""
    counts = Counter(word for phrase in phrases for word in dict.fromkeys(words_of(phrase)))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, count in ranked[:most] if count >= least]


def count_words(
    phrases: Sequence[str], vocabulary: dict[str, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the numbers of known words, and where each phrase's begin: what EmbeddingBag takes."""
    numbers: list[int] = []
    starts = []
    for phrase in phrases:
        starts.append(len(numbers))
        numbers += [vocabulary[word] for word in words_of(phrase) if word in vocabulary]
    return torch.tensor(numbers, dtype=torch.int64), torch.tensor(starts, dtype=torch.int64)
