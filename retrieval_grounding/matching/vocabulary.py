"""The words that a matcher knows, which tell "left" from "right" where embeddings hardly do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .language.words import words_of

__all__ = ["PADDING", "UNKNOWN", "frequent_words", "number_words"]


PADDING = 0
UNKNOWN = 1

_FIRST_WORD = 2


def frequent_words(phrases: Iterable[str], min_count: int, max_words: int) -> list[str]:
    """Return the words that at least `min_count` phrases use.

    The most frequent come first, at most `max_words` of them.

    Examples
    --------
    >>> frequent_words(["A dog", "the left dog", "a cat on the left"], 2, 100)
    ['a', 'dog', 'left', 'the']
    """
    counts: Counter[str] = Counter()
    for phrase in phrases:
        counts.update(set(words_of(phrase)) - {","})
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, count in ranked[:max_words] if count >= min_count]


def number_words(vocabulary: Sequence[str]) -> dict[str, int]:
    """Return the row of each known word in the word embeddings.

    Examples
    --------
    >>> number_words(["left", "dog"])
    {'left': 2, 'dog': 3}
    """
    return {word: row for row, word in enumerate(vocabulary, _FIRST_WORD)}
