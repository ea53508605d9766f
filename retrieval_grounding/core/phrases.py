"""Phrases: cleaned text with its embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import PhraseError

__all__ = ["Phrases", "clean_phrase"]


@dataclass(frozen=True)
class Phrases:
    """Phrases and their embeddings.

    Parameters
    ----------
    texts : sequence of p str
        As :func:`clean_phrase` returns them.
    embeddings : float32 array of shape (p, d)
        Unit length.
    parts : float32 array of shape (p, 3, d), optional
        Embeddings of what is meant with its attributes, of its noun alone, and of what it is said
        to be near; zeros where a phrase has no such part. See
        :func:`retrieval_grounding.matching.embed.embed_phrases`.

    Examples
    --------
    >>> phrases = Phrases(["a dog", "a cat"], np.eye(2, dtype=np.float32))
    >>> len(phrases), phrases[:1].texts
    (2, ['a dog'])
    """

    texts: Sequence[str]
    embeddings: npt.NDArray[np.float32]
    parts: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: npt.NDArray[np.integer] | slice) -> Phrases:
        numbers = np.arange(len(self))[rows].tolist()
        parts = None if self.parts is None else self.parts[rows]
        return Phrases([self.texts[row] for row in numbers], self.embeddings[rows], parts)


def clean_phrase(phrase: str) -> str:
    r"""Return `phrase` with control characters and runs of white space replaced by single spaces.

    Raises
    ------
    PhraseError
        If nothing is left, or `phrase` is not a string.

    Examples
    --------
    >>> clean_phrase("  a red\tcar ")
    'a red car'
    """
    if not isinstance(phrase, str):
        raise PhraseError(f"a phrase must be text, not {type(phrase).__name__}")
    printable = "".join(character if character.isprintable() else " " for character in phrase)
    cleaned = " ".join(printable.split())
    if not cleaned:
        raise PhraseError("the phrase is empty; say what to find, such as 'a red umbrella'")
    return cleaned
