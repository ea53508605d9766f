"""Which phrases mean nearly the same, so that what is known of one may be used for the other."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from .language.parse import parse_phrase
from .language.parts import Role
from .language.words import singular

__all__ = ["NEAR_COSINE", "Meaning", "meaning_of"]

NEAR_COSINE = 0.95
"""Of two phrases that differ in their nouns alone and mean the same: a couch, a sofa."""

_NOTHING = frozenset((Role.OTHER, Role.NOUN))
_ARTICLES = frozenset(("a", "an", "the", ","))


class Meaning(NamedTuple):
    """What must be the same in two phrases.

    Parameters
    ----------
    said : tuple of (str, int)
        The words that say something of the target, each with its role. Embeddings hardly tell
        “left” from “right”, so these have to be the same in phrases that are near.
    several : bool
        Whether a group of unknown size is meant.
    noun : str
        The target's noun in the singular, which may differ in phrases that are near.
    """

    said: tuple[tuple[str, int], ...]
    several: bool
    noun: str


@lru_cache(maxsize=4096)
def meaning_of(phrase: str) -> Meaning:
    """Return the meaning of a phrase, without articles.

    Examples
    --------
    >>> meaning_of("a red car") == meaning_of("Red car"), meaning_of("a blue car").noun
    (True, 'car')
    >>> meaning_of("the left dog").said == meaning_of("the right dog").said
    False
    """
    parsed = parse_phrase(phrase)
    said = tuple(
        (word, int(role))
        for word, role in zip(parsed.words, parsed.roles, strict=True)
        if role not in _NOTHING and word not in _ARTICLES
    )
    noun = " ".join(singular(word) for word in parsed.noun.split())
    return Meaning(said, parsed.count == 0, noun)
