"""Attributes: what the target wears, has, does, and what is denied."""

from __future__ import annotations

from . import kinds as k
from . import lexicon as lex
from .parts import Role
from .places import relate
from .reading import Reading

__all__ = ["read_attribute", "read_negation", "read_verb"]


_INTRANSITIVE = frozenset(
    "standing sitting walking running smiling laying lying kneeling crouching sleeping jumping "
    "flying laughing squatting leaning grazing swimming bending going moving resting hanging "
    "parking staring kissing crying skating surfing skiing snowboarding dancing posing stooping "
    "facing looking pointing waiting falling seating crouched reaching talking turning".split()
)
_DIRECTED = frozenset(
    "facing looking pointing turned turning heading moving going leaning staring walking "
    "running flying swinging angled bending".split()
)
_WORN = frozenset(("wearing", "dressed", "having", "featuring", "sporting", "clad", "containing"))
_VERBS = frozenset((k.VERB, k.PARTICIPLE))
_BEFORE_DENIED = _VERBS | {k.AUXILIARY, k.DETERMINER, k.PREPOSITION}


def read_attribute(r: Reading, at: int, start: int) -> int:
    """Read what follows "with" or "wearing", which begins at `start`."""
    if r.kind(at) == k.NEGATION:
        r.mark(start, at, Role.NEGATED)
        return read_negation(r, at)
    owner = r.owner()
    chunk = r.chunk(at)
    if not chunk.content:
        r.mark(start, at, owner if chunk.end > at else Role.OTHER)
        return at
    end = chunk.end
    r.mark(start, end, owner)
    while end + 1 < len(r.words) and r.kinds[end] in (k.AND, k.BREAK):
        more = end + 1 + (r.kinds[end + 1] == k.AND)
        chunk = r.chunk(more)
        if not chunk.noun:
            break
        r.mark(end, chunk.end, owner)
        end = chunk.end
    if owner is Role.LANDMARK and r.landmark and r.landmark[-1] == start - 1:
        r.landmark = list(range(r.landmark[0], end))
    elif owner is Role.ATTRIBUTE:
        r.last = Role.ATTRIBUTE
    return end


def read_verb(r: Reading, at: int) -> int:  # noqa: PLR0911 - one for each meaning
    """Read a verb with what belongs to it."""
    word = lex.VERBS.get(r.words[at], r.words[at])
    if word in _WORN:
        after = at + 1
        after += r.word(after) in ("in", "as", "all", "like")
        return read_attribute(r, after, at)
    if word == "made" and r.words[at + 1 : at + 2] in (["of"], ["from"], ["with"]):
        return read_attribute(r, at + 2, at)
    owner, end = r.owner(), at + 1
    r.roles[at] = owner
    if word in _DIRECTED:
        return _direction(r, end, owner)
    if end == len(r.words) or r.kinds[at] == k.PARTICIPLE or word in _INTRANSITIVE:
        return end
    if r.word(end) in lex.ADVERBS and r.chunk(end + 1).noun:
        end += 1  # "holding up an umbrella"
    chunk = r.chunk(end)
    if not chunk.noun:
        return end
    if owner is Role.ATTRIBUTE and not r.landmark:
        return relate(r, at, end, word)
    r.mark_chunk(chunk, owner)
    return chunk.end


def _direction(r: Reading, at: int, owner: Role) -> int:
    """Read "left", "away" or "at the camera" after "looking", which is no place."""
    end = at
    while r.word(end) in ("to", "at", "the", "towards", "toward", "your", "our"):
        end += 1
    if not (r.kind(end) == k.ADVERB or r.word(end) in lex.SIDES | lex.VIEWERS):
        return at
    end += 1
    if r.word(end) == "of":  # "standing left of"
        return at
    r.mark(at, end, owner)
    return end


def read_negation(r: Reading, at: int) -> int:
    """Read what is denied."""
    r.roles[at] = Role.NEGATED
    if r.words[at] in lex.NOBODY:
        r.negated.append([at])
        return at + 1
    end, verbs = at + 1, []
    while r.kind(end) in _BEFORE_DENIED and not (r.kinds[end] in _VERBS and r.chunk(end).noun):
        if r.kinds[end] in _VERBS:
            verbs.append(end)
        end += 1
    chunk = r.chunk(end, telegraphic=True)
    denied = list(range(chunk.first, chunk.end))
    person = next((p for p in denied if k.is_person(r.words[p])), None)
    if not r.noun and person is not None and person > end:  # "no shirt guy"
        denied, stop = list(range(chunk.first, person)), person
    else:
        stop = chunk.end
    if not denied and r.word(end) in ("one", "ones"):
        denied, stop = [end], end + 1
    denied = denied or verbs
    if not denied:
        return at + 1
    stop = max(stop, denied[-1] + 1)
    r.mark(at, stop, Role.NEGATED)
    r.negated.append(denied)
    return stop
