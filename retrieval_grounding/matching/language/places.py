"""Places and landmarks: where the target is, and what it is near."""

from __future__ import annotations

from . import kinds as k
from . import lexicon as lex
from .chunks import Chunk
from .parts import Role
from .reading import PRONOUNS, Reading
from .targets import name_target

__all__ = ["read_place", "relate"]


_ADVERBIAL = frozenset(("behind", "above", "below", "in front of", "near", "between", "opposite"))
_NEAR = frozenset(("close", "closest", "closer", "near", "nearest"))
_SIDE_NAMES = frozenset(
    (*lex.SIDE_RELATIONS, "bottom", "middle", "center", "corner", "edge", "end")
)


def relate(r: Reading, at: int, after: int, name: str) -> int:
    """Read the landmark of a relation whose words are from `at` to `after`."""
    chunk = r.chunk(after)
    if not chunk.content and r.word(after) in PRONOUNS:
        chunk = Chunk.single(after)
    if not chunk.content:
        adverbial = name in _ADVERBIAL or after == len(r.words)
        r.mark(at, after, Role.PLACE if adverbial else Role.OTHER)
        return after
    if r.last is Role.ATTRIBUTE and r.noun_of(chunk) in lex.BODY:
        r.mark(at, chunk.end, Role.ATTRIBUTE)  # "with a bell around its neck"
        return chunk.end
    r.mark(at, after, Role.RELATION)
    r.mark(after, chunk.first, Role.OTHER)
    r.mark(chunk.first, chunk.end, Role.LANDMARK)
    if not r.landmark:
        r.relation = name
        r.landmark = list(range(chunk.first, chunk.end))
    r.last = Role.LANDMARK
    return chunk.end


def read_place(r: Reading, at: int, start: int) -> int:  # noqa: PLR0911 - one for each meaning
    """Read places, whose preposition may begin at `start`; return 0 if there are none."""
    end, found = at, False
    while end < len(r.words):
        kind, word = r.kinds[end], r.words[end]
        if kind in (k.PLACE, k.ORDINAL, k.COMPARATIVE):
            found = True
        elif not (
            (kind == k.DETERMINER and not found)
            or (found and word in lex.PLACE_NOUNS)
            or (not found and word in ("very", "side", "extreme", "side's"))
            or (found and word == "and" and r.kinds[end + 1 : end + 2] == [k.PLACE])
        ):
            break
        end += 1
    if not found:
        if end == at or r.words[end - 1] != "side":
            return 0
        if r.kind(end) in k.CONTENT:
            return 0  # "in the side door"
    if r.word(end) == "of":
        return _place_of(r, at, end, start)
    if r.words[end - 1] in _NEAR and (r.word(end) == "to" or (r.noun and r.chunk(end).noun)):
        return _near(r, end, start)
    if _goes_on(r, at, end, start):
        return 0
    if start == at and not r.noun and r.chunk(at, telegraphic=True).noun:
        return 0  # "left guy": part of the noun phrase
    r.mark(start, end, Role.PLACE)
    return end


def _near(r: Reading, end: int, start: int) -> int:
    """Read "closest to" with a landmark, or with the camera."""
    relation = r.words[end - 1] in ("near", "close") and (
        r.chunk(end).noun and r.noun_of(r.chunk(end)) not in lex.VIEWERS
    )
    r.mark(start, end, Role.RELATION if relation else Role.PLACE)
    if r.words[end] == "to":
        if place := read_place(r, end + 1, end):
            return place
        return _near_what(r, end + 1, end)
    return _near_what(r, end, end)


def _near_what(r: Reading, after: int, at: int) -> int:
    """Read what is near, as a landmark or as the place of the camera."""
    chunk = r.chunk(after)
    word = r.noun_of(chunk).join(r.words[after : after + 1])
    if word in lex.VIEWERS or word in lex.IMAGE:
        end = max(chunk.end, after + 1)
        r.mark(at, end, Role.PLACE)
        return end
    return relate(r, at, after, "near")


def _goes_on(r: Reading, at: int, end: int, start: int) -> bool:
    """Return whether places before `end` belong to the noun that follows ("back seat")."""
    if r.kind(end) not in k.CONTENT:
        return False
    if start == at:
        return not r.noun
    word = r.noun_of(r.chunk(end))
    if not word or word in lex.IMAGE or k.is_person(word) or k.is_clothing(word):
        return False
    return bool(r.noun) and (r.kinds[end] == k.NOUN or r.kinds[at] == k.DETERMINER)


def _place_of(r: Reading, at: int, end: int, start: int) -> int:
    """Read "left of", "on top of" and the like, whose "of" is at `end`."""
    chunk = r.chunk(end + 1)
    word = r.noun_of(chunk)
    if (
        not chunk.content
        or word in lex.IMAGE
        or word in lex.COLLECTIVES
        or (not chunk.noun and chunk.quantities)
    ):
        end = max(chunk.end, end + 1)
        r.mark(start, end, Role.PLACE)
        return end
    place = next((w for w in r.words[at:end] if w in _SIDE_NAMES), "")
    preposition = r.relation_at(start)[0] if start < at else ""
    side = lex.SIDE_RELATIONS.get(place, "")
    if not side or (place not in ("left", "right") and preposition in ("in", "at", "from")):
        side = preposition or ("of" if not r.noun else "on")
    if not r.noun and start == at and place not in ("left", "right"):
        # "top of cake": a part, named by the whole
        r.mark(at, chunk.end, Role.ATTRIBUTE)
        name_target(r, chunk)
        r.last = Role.NOUN
        return chunk.end
    return relate(r, start, end + 1, side)
