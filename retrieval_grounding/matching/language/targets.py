"""The target: its noun phrase, what follows it without a preposition, and "and"."""

from __future__ import annotations

from . import kinds as k
from .chunks import Chunk
from .parts import Role
from .reading import Reading, quantity
from .words import is_plural

__all__ = ["name_target", "read_conjunction", "read_more", "read_target"]


_GROUPS = frozenset(
    "group crowd herd flock bunch gang cluster swarm team crew couple pair duo trio".split()
)


def read_target(r: Reading, chunk: Chunk) -> int:
    """Read the noun phrase of the target."""
    r.mark_chunk(chunk, Role.ATTRIBUTE)
    for at in chunk.quantities:
        r.roles[at] = Role.COUNT
        if r.words[at] != "all":  # "all black dog"
            r.quantity = quantity(r.words[at])
    if chunk.owner:
        r.mark(chunk.owner[0], chunk.owner[-1] + 1, Role.LANDMARK)
        r.landmark, r.relation = chunk.owner, "of"
    name_target(r, chunk)
    r.last = Role.NOUN
    return chunk.end


def name_target(r: Reading, chunk: Chunk) -> None:
    """Take the noun of a noun phrase for that of the target, and count."""
    r.noun = chunk.noun
    for at in chunk.noun:
        r.roles[at] = Role.NOUN
    if r.quantity is not None:
        r.count = r.quantity
    elif chunk.noun:
        word = r.noun_of(chunk)
        many = is_plural(word) or word in _GROUPS
        r.count = quantity(word) if many else 1


def read_more(r: Reading, chunk: Chunk) -> int:
    """Read a noun phrase after the target: said of it without a preposition."""
    owner = Role.ATTRIBUTE
    if r.last is Role.LANDMARK and r.kinds[chunk.start - 1] == k.AND:
        owner = Role.LANDMARK
    r.mark_chunk(chunk, owner)
    return chunk.end


def read_conjunction(r: Reading, at: int) -> int:
    """Read "and": a second target, a further attribute, or a second landmark."""
    chunk = r.chunk(at + 1)
    if not chunk.content or not r.noun:
        return at + 1
    if r.last is Role.NOUN and chunk.noun:
        if not (k.is_clothing(r.noun_of(chunk)) or _is_clothing(r)):
            both = r.count == 1 and not is_plural(r.noun_of(chunk))
            r.count = 2 if both else 0
        r.mark(at, chunk.first, Role.ATTRIBUTE)
        r.mark_chunk(chunk, Role.ATTRIBUTE)
        for place in chunk.noun:
            r.roles[place] = Role.NOUN
    elif r.last is Role.LANDMARK:
        r.mark(at, chunk.end, Role.LANDMARK)
        if r.relation == "between" and r.landmark:
            r.landmark = list(range(r.landmark[0], chunk.end))
    else:
        r.mark(at, chunk.first, Role.ATTRIBUTE)
        r.mark_chunk(chunk, Role.ATTRIBUTE)
    return chunk.end


def _is_clothing(r: Reading) -> bool:
    return bool(r.noun) and k.is_clothing(r.words[r.noun[-1]])
