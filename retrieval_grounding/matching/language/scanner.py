"""Reading a phrase word by word: which role each word has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import kinds as k
from . import lexicon as lex
from .attributes import read_attribute, read_negation, read_verb
from .chunks import Chunk
from .parts import Role
from .places import read_place, relate
from .reading import Reading, quantity
from .targets import name_target, read_conjunction, read_more, read_target
from .words import PAIRED, singular

__all__ = ["scan"]


_LOOKS = frozenset(
    "pattern logo design stripes stripe dots print cast color colour colors shape style".split()
)
_RELATIVE = frozenset(("that", "which", "where", "who", "whose"))
_SUBJECTS = frozenset("you i she shes she's he hes he's we they theyre they're".split())
_IS = frozenset(("is", "are", "was", "were"))
_PREDICATE = frozenset((k.VERB, k.PARTICIPLE, k.AUXILIARY))


def scan(words: Sequence[str]) -> Reading:
    """Return a phrase, read to its end.

    Parameters
    ----------
    words : sequence of str
        From :func:`.words.words_of`.

    Examples
    --------
    >>> scan(["left", "man", "in", "red"]).roles
    [<Role.PLACE: 4>, <Role.NOUN: 1>, <Role.ATTRIBUTE: 2>, <Role.ATTRIBUTE: 2>]
    """
    reading, at = Reading(words), 0
    while at < len(words):
        read = _READERS.get(reading.kinds[at], _phrase)
        at = max(read(reading, at), at + 1)
    return reading


def _placed(r: Reading, at: int) -> int:
    """Read a place, or a noun phrase that begins with one."""
    return read_place(r, at, at) or _phrase(r, at)


def _adverb(r: Reading, at: int) -> int:
    """Let an adverb go with the words before it."""
    if at and r.roles[at - 1] in (Role.ATTRIBUTE, Role.LANDMARK):
        r.roles[at] = r.roles[at - 1]
    return at + 1


def _skip(r: Reading, at: int) -> int:
    """Read an auxiliary, or a clause after "which"."""
    return (_clause(r, at + 1) if r.noun and r.words[at] in _RELATIVE else 0) or at + 1


def _phrase(r: Reading, at: int) -> int:
    """Read a noun phrase, a clause or a verb."""
    if r.noun and (end := _statement(r, at)):
        return end
    chunk = r.chunk(at, telegraphic=not r.noun)
    if chunk.content:
        return read_more(r, chunk) if r.noun else read_target(r, chunk)
    if chunk.quantities and r.word(chunk.end) == "of":
        r.quantity = quantity(r.words[chunk.quantities[0]])
        return chunk.end + 1
    if chunk.end > at:
        r.mark_chunk(chunk, Role.OTHER)
        return chunk.end
    return read_verb(r, at) if r.kinds[at] in (k.VERB, k.PARTICIPLE) else at + 1


def _statement(r: Reading, at: int) -> int:
    """Read a clause about the target ("that he sits on"); return 0 if there is none."""
    if r.words[at] in _SUBJECTS:
        return _predicate(r, at + 1)
    if r.words[at] in _RELATIVE:
        return _clause(r, at + 1)
    return _clause(r, at, _IS) if r.kinds[at] in (k.DETERMINER, k.QUANTITY) else 0


def _preposition(r: Reading, at: int) -> int:  # noqa: PLR0911 - one for each meaning
    """Read a preposition with what follows."""
    name, after = r.relation_at(at)
    if name == "with":
        return read_attribute(r, after, at)
    if after - at == 1 and (end := read_place(r, after, at)):
        return end
    chunk = r.chunk(after)
    word = r.noun_of(chunk)
    if word in lex.IMAGE and name in ("in", "of", "on", "from"):
        r.mark_chunk(chunk, Role.OTHER)
        return chunk.end
    if word in lex.VIEWERS or r.word(after) in ("us", "you", "me"):
        r.mark(at, max(chunk.end, after + 1), Role.PLACE)
        return max(chunk.end, after + 1)
    if name == "of":
        return _of(r, at, chunk)
    covered = at and r.kinds[at - 1] == k.PARTICIPLE and chunk.content  # "covered in snow"
    if name == "in" and (covered or _is_worn(r, chunk)):
        return read_attribute(r, after, at)
    return relate(r, at, after, name)


def _is_worn(r: Reading, chunk: Chunk) -> bool:
    """Return whether "in" with this noun phrase says what somebody wears."""
    if not chunk.noun:
        return bool(chunk.content)
    word = r.noun_of(chunk)
    if k.is_clothing(word) or word in _LOOKS:
        return True
    someone = not r.noun or k.is_person(r.words[r.noun[-1]])
    known = singular(word) in lex.SCENES or k.is_animate(word)
    vague = r.kinds[chunk.start] == k.DETERMINER and not any(
        r.words[at] in lex.COLOR_WORDS for at in range(chunk.start, chunk.end)
    )
    return someone and not known and not vague


def _of(r: Reading, at: int, chunk: Chunk) -> int:  # noqa: PLR0911 - one for each meaning
    """Read "of": a quantity, a part or content of the target, or its owner."""
    if not chunk.noun:
        return at + 1
    if not r.noun:
        return read_target(r, chunk)
    if r.words[at - 1] == "full":
        return read_attribute(r, at + 1, at)
    word = singular(r.words[r.noun[-1]])
    if r.last is not Role.NOUN:
        if r.last is Role.LANDMARK and r.landmark and r.landmark[-1] == at - 1:
            r.landmark = list(range(r.landmark[0], chunk.end))
            r.mark(at, chunk.end, Role.LANDMARK)
        else:
            r.mark(at, chunk.end, Role.ATTRIBUTE)
        return chunk.end
    if word in lex.COLLECTIVES or word in ("one", "ones"):
        r.mark(r.noun[0], at + 1, Role.COUNT)
        paired = r.noun_of(chunk) in PAIRED
        if r.quantity is None:
            r.quantity = 1 if word == "one" or paired else quantity(word)
        return read_target(r, chunk)
    if word in lex.MODIFIERS:
        r.mark(r.noun[0], chunk.end, Role.ATTRIBUTE)
        name_target(r, chunk)
        return chunk.end
    if word in lex.CONTAINERS:
        r.mark(at, chunk.end, Role.ATTRIBUTE)
        return chunk.end
    return relate(r, at, at + 1, "of")


def _clause(r: Reading, at: int, verbs: frozenset[str] = frozenset()) -> int:
    """Read a clause about the target with a subject of its own ("that the man sits on")."""
    chunk = r.chunk(at)
    end = chunk.end
    if not chunk.noun or (verbs and not verbs.intersection((r.word(end),))):
        return 0
    while end < len(r.words) and r.kinds[end] != k.BREAK:
        end += 1
    if not any(kind in _PREDICATE for kind in r.kinds[chunk.end : end]):
        return 0
    r.mark(chunk.first, end, Role.LANDMARK)
    if not r.landmark:
        r.relation, r.landmark = "of", list(range(chunk.first, chunk.end))
    return end


def _predicate(r: Reading, at: int) -> int:
    """Read what somebody does to the target ("the chair she is sitting on")."""
    while r.kind(at) in (*_PREDICATE, k.NEGATION, k.ADVERB):
        at += 1
    at = max(at, r.chunk(at).end)
    return at + (r.kinds[at:] == [k.PREPOSITION])


_READERS: dict[str, Callable[[Reading, int], int]] = {
    k.NEGATION: read_negation,
    k.PREPOSITION: _preposition,
    k.PLACE: _placed,
    k.ORDINAL: _placed,
    k.COMPARATIVE: _placed,
    k.AND: read_conjunction,
    k.ADVERB: _adverb,
    k.AUXILIARY: _skip,
    k.BREAK: _skip,
}
