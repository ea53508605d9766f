"""The kind of each word, from the word lists and from endings."""

from __future__ import annotations

from functools import lru_cache

from . import lexicon as lex
from .words import singular

__all__ = [
    "ADJECTIVE", "ADVERB", "AND", "AUXILIARY", "BREAK", "COMPARATIVE", "CONTENT", "DETERMINER",
    "GENITIVE", "NEGATION", "NOUN", "ORDINAL", "PARTICIPLE", "PLACE", "PREPOSITION", "QUANTITY",
    "VERB", "is_animate", "is_clothing", "is_person", "kind_of",
]  # fmt: skip

ADJECTIVE, ADVERB, AND, AUXILIARY, BREAK = "a", "b", "&", "x", ","
COMPARATIVE, DETERMINER, GENITIVE, NEGATION, NOUN = "c", "d", "g", "!", "n"
ORDINAL, PARTICIPLE, PLACE, PREPOSITION, QUANTITY, VERB = "o", "e", "p", "r", "q", "v"
CONTENT = frozenset((ADJECTIVE, NOUN, GENITIVE, PARTICIPLE))
"""Kinds that a noun phrase goes on with."""

_PREPOSITIONS = frozenset(words[0] for words in lex.RELATIONS) - lex.PLACES
_KINDS: dict[str, str] = {}
for _kind, _words in (
    (NOUN, lex.PEOPLE | lex.CLOTHING | lex.ING_NOUNS | lex.ED_NOUNS),
    (ADVERB, lex.ADVERBS),
    (ADJECTIVE, lex.ADJECTIVES),
    (VERB, frozenset(lex.VERBS)),
    (AUXILIARY, lex.AUXILIARIES),
    (PREPOSITION, _PREPOSITIONS),
    (QUANTITY, lex.QUANTIFIERS | frozenset(lex.NUMBERS) - {"1"}),
    (COMPARATIVE, lex.COMPARATIVES),
    (ORDINAL, frozenset(lex.ORDINALS)),
    (PLACE, lex.PLACES),
    (DETERMINER, lex.DETERMINERS),
    (NEGATION, lex.NEGATIONS | lex.NOBODY),
    (GENITIVE, lex.POSSESSED),
    (AND, frozenset(("and", "or", "n", "plus"))),
    (BREAK, frozenset((",",))),
):
    _KINDS |= dict.fromkeys(_words, _kind)


@lru_cache(maxsize=16384)
def kind_of(word: str) -> str:  # noqa: PLR0911 - one for each rule
    """Return the kind of a word of :func:`.words.words_of`; an unknown word is a noun.

    Examples
    --------
    >>> [kind_of(word) for word in ("zebra", "left", "striped", "running", "building", "lady's")]
    ['n', 'p', 'a', 'v', 'n', 'g']
    """
    if word in _KINDS:
        return _KINDS[word]
    if word.endswith(("'s", "s'")):
        return GENITIVE
    if word.endswith("n't"):
        return NEGATION
    if word.isdigit():
        return ADJECTIVE
    first, _, last = word.rpartition("-")
    if first:
        if first.split("-")[0] in lex.ADJECTIVES or last in lex.ADJECTIVES or last.endswith("ed"):
            return ADJECTIVE
        return kind_of(last)
    if word.endswith("ing") and len(word) > 4 and any(vowel in word[:-3] for vowel in "aeiouy"):
        return VERB
    if word.endswith("ed") and len(word) > 4:
        return PARTICIPLE
    return NOUN


@lru_cache(maxsize=4096)
def is_person(noun: str) -> bool:
    """Return whether a noun, singular or plural, names people."""
    return singular(noun) in lex.PEOPLE or noun in lex.PEOPLE


@lru_cache(maxsize=4096)
def is_animate(noun: str) -> bool:
    """Return whether a noun, singular or plural, names people or animals."""
    return is_person(noun) or singular(noun) in lex.ANIMALS


@lru_cache(maxsize=4096)
def is_clothing(noun: str) -> bool:
    """Return whether a noun names what people wear, hair and beards included."""
    one = singular(noun)
    return one in lex.CLOTHING or noun in lex.CLOTHING or one.endswith(lex.CLOTHING_ENDINGS)
