"""Noun phrases: where one ends, and which of its words is the noun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from . import kinds as k
from . import lexicon as lex

__all__ = ["Chunk", "kinds_of", "read_chunk"]


_TAKES_OBJECT = frozenset("holding wearing riding carrying having using eating".split())
_ARTICLES = frozenset(("a", "an", "the"))
_PRONOUNS = frozenset(("one", "ones"))
_COMPOUND_FIRST = frozenset(
    "baby mother mama momma mommy papa father parent adult child kid male female police chef cop "
    "player team family crowd construction bride student".split()
)
_NOUN_AT_END = frozenset(
    "orange glass toy half paper brick wood stone chocolate metal plastic square triangle straw "
    "gold silver leather concrete fabric indian".split()
)
"""Adjectives that are nouns where no other noun is."""
_BEFORE_NOUN = frozenset((k.DETERMINER, k.ADJECTIVE, k.PREPOSITION, k.QUANTITY, k.NEGATION))
_NP_START = k.CONTENT | {k.DETERMINER}
_NEAR = frozenset("near close closest nearest closer".split())
_VERB_TOO = frozenset("crossing painting writing drawing opening covering clearing".split())
_MAKES_ADJECTIVE = frozenset(
    "covered filled shaped lined framed topped colored coloured haired skinned sleeved".split()
)
_SHADED = frozenset("lime mint baby sky forest neon army royal rose sea lemon blood".split())
_GERUNDS = frozenset(
    "swimming running parking washing sleeping bathing riding rocking folding cutting dining "
    "frying skating hiking walking diving fishing climbing shopping serving drinking watering "
    "living waiting training wading rowing sewing mixing ironing changing baking boxing racing "
    "sailing skiing surfing hunting smiling standing sitting laughing".split()
)


@dataclass
class Chunk:
    """A noun phrase without what follows a preposition.

    Parameters
    ----------
    start, end : int
        Its words; `end` is the place after the last one.
    first : int
        The first word after articles.
    noun : list of int
        Places of the noun's words; empty if there is none.
    content : bool
        Whether it has an adjective or a noun.
    quantities, places : list of int
        Places of numbers, and of words such as "left" and "second".
    owner : list of int
        Places of a genitive's words ("man's hand").
    """

    start: int
    end: int
    first: int
    noun: list[int] = field(default_factory=list)
    content: bool = False
    quantities: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)

    @classmethod
    def single(cls, at: int) -> Chunk:
        """Return a noun phrase of one word, such as a pronoun."""
        return cls(at, at + 1, at, [at], True)


def kinds_of(words: Sequence[str]) -> list[str]:
    """Return the kind of each word, with what its neighbors say about it."""
    kinds = [k.kind_of(word) for word in words]
    for at in range(1, len(words)):
        if (words[at - 1], words[at]) in lex.COMPOUNDS:
            kinds[at - 1] = kinds[at] = k.NOUN
        elif kinds[at] == k.VERB and words[at].endswith("s") and kinds[at - 1] in _BEFORE_NOUN:
            kinds[at] = k.NOUN  # "with two faces"
        elif words[at] == "glass" and kinds[at - 1] == k.NOUN:
            if kinds[at + 1 : at + 2] not in ([k.NOUN], [k.ADJECTIVE]):
                kinds[at] = k.NOUN  # "juice glass"
        elif words[at] in _VERB_TOO and kinds[at - 1] == k.NOUN and at + 1 < len(words):
            kinds[at] = k.VERB  # "man crossing street"
        elif kinds[at] == k.PARTICIPLE and words[at] in _MAKES_ADJECTIVE:
            if kinds[at - 1] == k.NOUN and kinds[at + 1 : at + 2] == [k.NOUN]:
                kinds[at - 1] = kinds[at] = k.ADJECTIVE  # "snow covered mountains"
        elif words[at - 1] in _SHADED and words[at] in lex.COLOR_WORDS:
            kinds[at - 1] = k.ADJECTIVE  # "lime green shirt"
    return kinds


def read_chunk(
    words: Sequence[str], kinds: Sequence[str], start: int, telegraphic: bool = False
) -> Chunk:
    """Read a noun phrase from `start`; it may be empty.

    Parameters
    ----------
    words, kinds : sequences of str
        The phrase; see :func:`kinds_of`.
    start : int
        Its first word.
    telegraphic : bool
        Whether attributes may follow the noun without a preposition ("guy red shirt").
    """
    chunk = Chunk(start, start, start)
    groups: list[list[int]] = []  # runs of nouns, divided by adjectives
    at = start
    while at < len(words):
        what = _member(words, kinds, at, chunk, bool(groups), telegraphic)
        if what is None:
            break
        if what == k.DETERMINER:
            if not (chunk.content or chunk.quantities or chunk.places):
                chunk.first = at + 1
        elif what == k.QUANTITY:
            chunk.quantities.append(at)
        elif what == k.PLACE:
            chunk.places.append(at)
        else:
            if what == k.NOUN:
                _add_noun(groups, at)
            elif what == k.GENITIVE:
                chunk.owner = [at]
            chunk.content = True
        at += 1
    if at > start and (chunk.content or chunk.quantities or chunk.places):
        chunk.end = at
    else:
        chunk.first = start
    _choose_noun(chunk, groups, words, telegraphic)
    return chunk


def _member(  # noqa: PLR0911 - one for each meaning
    words: Sequence[str],
    kinds: Sequence[str],
    at: int,
    chunk: Chunk,
    named: bool,
    telegraphic: bool,
) -> str | None:
    """Return as what a word belongs to a noun phrase, or None if it ends it.

    `named` says whether the phrase has a noun already.
    """
    kind, word = kinds[at], words[at]
    following = kinds[at + 1] if at + 1 < len(words) else ""
    if kind == k.NOUN or (word in _PRONOUNS and _is_pronoun(words, kinds, at)):
        return k.NOUN
    if kind in (k.PLACE, k.ORDINAL, k.COMPARATIVE):
        return _place_member(words, kinds, at, chunk, named, telegraphic)
    if kind == k.DETERMINER:
        return None if named or (word in _ARTICLES and chunk.content) else kind
    if kind == k.GENITIVE:
        if named and not telegraphic:
            return None
        return kind if following in k.CONTENT else k.NOUN
    if named:
        return kind if kind == k.ADJECTIVE and telegraphic else None
    belongs = {
        k.ADJECTIVE: True,
        k.QUANTITY: True,
        k.PARTICIPLE: following in k.CONTENT,
        k.AND: chunk.content and following == k.ADJECTIVE,
        k.BREAK: chunk.content and following in k.CONTENT,
    }
    if kind == k.VERB:
        return k.ADJECTIVE if _describes(words, kinds, at, chunk.start) else None
    return kind if belongs.get(kind) else None


def _place_member(
    words: Sequence[str],
    kinds: Sequence[str],
    at: int,
    chunk: Chunk,
    named: bool,
    telegraphic: bool,
) -> str | None:
    """Return as what a place word belongs to a noun phrase, or None if it ends it."""
    following = kinds[at + 1] if at + 1 < len(words) else ""
    if _is_garment(words, kinds, at, chunk.content):
        return k.NOUN
    if (following and words[at + 1] in ("of", "to", "from")) or (named and not telegraphic):
        return None
    if chunk.content and words[at] in _NEAR and following in _NP_START:
        return None  # "glass near man"
    if not named and _is_part(words, kinds, at, chunk.start, telegraphic):
        return k.NOUN
    return k.PLACE if telegraphic or _noun_ahead(kinds, at + 1) else None


def _add_noun(groups: list[list[int]], at: int) -> None:
    if groups and groups[-1][-1] == at - 1:
        groups[-1].append(at)
    else:
        groups.append([at])


def _is_pronoun(words: Sequence[str], kinds: Sequence[str], at: int) -> bool:
    """Return whether "one" stands for a noun, and not for a number."""
    if at + 1 == len(words):
        return True
    return kinds[at + 1] not in k.CONTENT | {k.PLACE} and words[at + 1] != "of"


def _is_garment(words: Sequence[str], kinds: Sequence[str], at: int, content: bool) -> bool:
    """Return whether "top" is something to wear, as in "blue top"."""
    if words[at] != "top" or not content or kinds[at - 1] not in (k.ADJECTIVE, k.NOUN):
        return False
    return words[at - 1] in lex.ADJECTIVES or words[at - 1] in ("tank", "crop", "halter")


def _is_part(
    words: Sequence[str], kinds: Sequence[str], at: int, start: int, telegraphic: bool
) -> bool:
    """Return whether a place word is the noun, as in "his back" and "a white front"."""
    if at == start or words[at] not in lex.PARTS or _noun_ahead(kinds, at + 1):
        return False
    if kinds[at - 1] == k.DETERMINER:
        return words[at - 1] in lex.POSSESSIVES or (not telegraphic and words[at - 1] != "the")
    return not telegraphic and kinds[at - 1] == k.ADJECTIVE and words[at] in ("back", "front")


def _noun_ahead(kinds: Sequence[str], at: int) -> bool:
    while at < len(kinds) and kinds[at] in (k.PLACE, k.ORDINAL, k.COMPARATIVE, k.QUANTITY):
        at += 1
    return at < len(kinds) and kinds[at] in (k.NOUN, k.ADJECTIVE, k.GENITIVE)


def _describes(words: Sequence[str], kinds: Sequence[str], at: int, start: int) -> bool:
    """Return whether a verb describes the noun that follows ("walking man", "washing machine")."""
    if words[at] in lex.VERBS or words[at] in _TAKES_OBJECT:
        return False
    ahead = at + 1
    while ahead < len(words) and kinds[ahead] in (k.ADJECTIVE, k.PARTICIPLE):
        ahead += 1
    if ahead == len(words) or kinds[ahead] != k.NOUN:
        return False
    if at == start:
        return k.is_animate(words[ahead])
    return kinds[at - 1] == k.DETERMINER or words[at] in _GERUNDS


def _choose_noun(
    chunk: Chunk, groups: list[list[int]], words: Sequence[str], telegraphic: bool
) -> None:
    """Find the noun among all nouns: the last of the first run, unless a person is named."""
    if not groups:
        if chunk.content and words[chunk.end - 1] in _NOUN_AT_END:
            chunk.noun = [chunk.end - 1]
        return
    run = groups[0]
    last = run[-1]
    if telegraphic:
        if words[chunk.start] in ("a", "an"):  # a sentence: "a black strap metal belt"
            run, last = groups[-1], groups[-1][-1]
        for group in groups:
            for at in group:
                if not k.is_person(words[at]):
                    continue
                after = at + 1 if at + 1 in group else -1
                if after >= 0 and _is_compound(words, at, after):
                    continue
                run, last = group, at
    if words[last] in _PRONOUNS:
        return
    chunk.noun = [last]
    if last - 1 in run and (words[last - 1], words[last]) in lex.COMPOUNDS:
        chunk.noun = [last - 1, last]


def _is_compound(words: Sequence[str], at: int, after: int) -> bool:
    """Return whether a person's noun only describes the next one ("woman hand", "baby bear")."""
    return words[at] in _COMPOUND_FIRST or words[after] in lex.BODY or k.is_person(words[after])
