"""Dividing a phrase into its parts.

Rules over word lists, for the telegraphic style of people who describe a region ("guy far right
red shirt") as well as for sentences. A phrase may be any text: what no rule understands is taken
for a noun or an attribute of the target.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from . import lexicon as lex
from .parts import PhraseParts, Role
from .scanner import scan
from .words import words_of

__all__ = ["named_colors", "parse_phrase"]


_CORE = frozenset((Role.NOUN, Role.ATTRIBUTE, Role.COUNT))
_ADVERBS_OF_PLACE = frozenset("behind above below underneath under between beside".split())


@lru_cache(maxsize=256)  # a query asks several times
def parse_phrase(text: str) -> PhraseParts:
    """Divide a phrase into its parts; any text has some.

    Examples
    --------
    >>> parts = parse_phrase("second man from the left in a red shirt next to the old bus")
    >>> parts.core, parts.noun, parts.relation, parts.landmark
    ('man in a red shirt', 'man', 'next to', 'old bus')
    >>> parts.places, parts.ordinal, parts.colors
    (('left',), 2, (4,))
    >>> parse_phrase("three zebras").count, parse_phrase("woman without glasses").negated
    (3, ('glasses',))
    >>> parse_phrase("red shirt man far right").core
    'red shirt man'
    """
    words = words_of(text)
    read = scan(words)
    roles = read.roles
    full = _text(words)
    core = _text(word for word, role in zip(words, roles, strict=True) if role in _CORE)
    core = core or full
    placed = [word for word, role in zip(words, roles, strict=True) if role is Role.PLACE]
    return PhraseParts(
        full=full,
        core=core,
        noun=_text(words[at] for at in read.noun) or core,
        landmark=_text(_without_genitive(words[at]) for at in read.landmark),
        relation=read.relation if read.landmark else "",
        named=bool(read.noun),
        colors=named_colors(word for word, role in zip(words, roles, strict=True) if role in _CORE),
        count=read.count,
        places=tuple(w for w in placed if w in lex.PLACES or w in _ADVERBS_OF_PLACE),
        ordinal=next((lex.ORDINALS[word] for word in placed if word in lex.ORDINALS), 0),
        comparatives=tuple(word for word in placed if word in lex.COMPARATIVES and word != "most"),
        negated=tuple(_text(words[at] for at in denied) for denied in read.negated),
        words=tuple(words),
        roles=tuple(roles),
    )


def named_colors(words: Iterable[str]) -> tuple[int, ...]:
    """Return the columns of `COLORS` that words name, without repetitions and in their order.

    Examples
    --------
    >>> named_colors(["navy", "shirt", "black-and-white", "tan-colored", "blue"])
    (8, 0, 1, 3)
    """
    found: dict[int, None] = {}
    for word in words:
        if word in lex.COLOR_WORDS:
            found[lex.COLOR_WORDS[word]] = None
        elif "-" in word:
            for part in word.split("-"):
                if part in lex.COLOR_WORDS:
                    found[lex.COLOR_WORDS[part]] = None
    return tuple(found)


def _without_genitive(word: str) -> str:
    if word in lex.POSSESSED:
        return word[:-1]
    return word[:-2] if word.endswith(("'s", "s'")) else word


def _text(words: Iterable[str]) -> str:
    return " ".join(word for word in words if word != ",")
