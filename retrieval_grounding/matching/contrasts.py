"""False phrases: what training says of an image beside a statement, so that words count."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from ..core.types import RowKey
from .language.changes import changed_phrases
from .language.words import singular, words_of
from .statements import Statement

__all__ = ["add_contrasts", "words_said"]


_TRIED = 2
_RELATIVE = frozenset(("place", "ordinal", "comparative", "relation"))
"""Changes that may leave what people say true: a man in front of a house is beside it as well."""


def words_said(text: str) -> set[str]:
    """Return the words of a text, nouns in the singular.

    Examples
    --------
    >>> sorted(words_said("Two dogs, one brown"))
    ['brown', 'dog', 'one', 'two']
    """
    return {singular(word) for word in words_of(text) if word != ","}


def add_contrasts(statements: Sequence[Statement], seed: int) -> list[Statement]:
    """Give statements a phrase that is false of their target, where one can be made.

    One word or relation is changed. A word that is said about the image by another statement is
    not used: it may be true of the target as well.

    Parameters
    ----------
    statements : sequence of Statement
        Those about an image should be complete. Contrasts that they have are kept.
    seed : int
        Seed of the draws.
    """
    said: defaultdict[RowKey, set[str]] = defaultdict(set)
    for statement in statements:
        said[statement.key] |= words_said(statement.phrase)
    return [
        statement
        if statement.contrast
        else replace(statement, contrast=_contrast(statement, said[statement.key], seed))
        for statement in statements
    ]


def _contrast(statement: Statement, said: set[str], seed: int) -> str:
    about = f"{statement.key} {statement.phrase}"
    rng = Random(zlib.crc32(about.encode(), seed & 0xFFFFFFFF))
    for change in changed_phrases(statement.phrase, rng)[:_TRIED]:
        relative = change.kind in _RELATIVE
        if relative and not statement.generated:
            continue
        # A change of order brings in no new word, and means what the target is related to.
        if change.kind == "order" or not words_said(change.new) & said:
            return change.phrase
    return ""
