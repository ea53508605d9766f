"""Words and word pairs of phrases, which tell "left" from "right" where embeddings hardly do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch

__all__ = ["encode_words", "frequent_words", "words_and_bigrams"]


def words_and_bigrams(phrase: str) -> list[str]:
    """Return the words of a phrase and the pairs of neighboring words, in lower case.

    Examples
    --------
    >>> words_and_bigrams("2nd dog, left")
    ['2nd', 'dog', 'left', '2nd dog', 'dog left']
    """
    words = re.findall(r"\w+", phrase.lower())
    return [*words, *(f"{first} {second}" for first, second in pairwise(words))]


def frequent_words(phrases: Iterable[str], min_count: int, max_words: int) -> list[str]:
    """Return the words and bigrams that at least `min_count` phrases use.

    The most frequent come first, at most `max_words` of them.
    """
    counts: Counter[str] = Counter()
    for phrase in phrases:
        counts.update(set(words_and_bigrams(phrase)))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, count in ranked[:max_words] if count >= min_count]


def encode_words(
    phrases: Sequence[str], word_ids: dict[str, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids of known words, and the offset at which each phrase begins.

    They are the two int64 inputs of :class:`torch.nn.EmbeddingBag`. Unknown words are left out.
    """
    ids: list[int] = []
    offsets = []
    for phrase in phrases:
        offsets.append(len(ids))
        ids += [word_ids[word] for word in words_and_bigrams(phrase) if word in word_ids]
    return torch.tensor(ids, dtype=torch.int64), torch.tensor(offsets, dtype=torch.int64)
