"""What has been read of a phrase: a role for each word, and the target, landmark and denials."""

from __future__ import annotations

from collections.abc import Sequence

from . import lexicon as lex
from .chunks import Chunk, kinds_of, read_chunk
from .kinds import is_animate, is_clothing, is_person
from .parts import Role

__all__ = ["PRONOUNS", "Reading", "quantity"]


PRONOUNS = frozenset("him her them".split())
_LONGEST = max(map(len, lex.RELATIONS))


class Reading:
    """A phrase that is being read from left to right.

    Functions that read from a place in it mark roles, and return the place after what they have
    read.

    Parameters
    ----------
    words : sequence of str
        From :func:`.words.words_of`.

    Attributes
    ----------
    kinds : list of str
        See :func:`.chunks.kinds_of`.
    roles : list of Role
        One per word.
    noun : list of int
        Places of the words of the target's noun; empty until it is found.
    relation : str
        How the target relates to the landmark.
    landmark : list of int
        Places of the words of the landmark.
    negated : list of list of int
        Places of the words that are denied, one list for each negation.
    quantity : int or None
        The number before the noun; 0 for several.
    count : int
        How many things are meant; 0 for a group of unknown size.
    last : Role
        Role of the noun phrase before.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self.kinds = kinds_of(words)
        self.roles = [Role.OTHER] * len(words)
        self.noun: list[int] = []
        self.relation = ""
        self.landmark: list[int] = []
        self.negated: list[list[int]] = []
        self.quantity: int | None = None
        self.count = 1
        self.last = Role.OTHER

    def word(self, at: int) -> str:
        """Return a word, or the empty string after the end."""
        return self.words[at] if at < len(self.words) else ""

    def kind(self, at: int) -> str:
        """Return the kind of a word, or the empty string after the end."""
        return self.kinds[at] if at < len(self.words) else ""

    def noun_of(self, chunk: Chunk) -> str:
        """Return the last word of a noun, or the empty string if there is none."""
        return self.words[chunk.noun[-1]] if chunk.noun else ""

    def chunk(self, at: int, telegraphic: bool = False) -> Chunk:
        """Return the noun phrase that begins at a place."""
        return read_chunk(self.words, self.kinds, at, telegraphic)

    def mark(self, start: int, end: int, role: Role) -> None:
        """Give words a role."""
        self.roles[start:end] = [role] * (end - start)

    def mark_chunk(self, chunk: Chunk, role: Role) -> None:
        """Give the words of a noun phrase a role, except places and the first articles."""
        for at in range(chunk.start, chunk.end):
            if at in chunk.places:
                self.roles[at] = Role.PLACE
            elif role is not Role.OTHER and at >= chunk.first:
                self.roles[at] = role

    def owner(self) -> Role:
        """Return what a further attribute is said of: the target, or the landmark."""
        if self.last is not Role.LANDMARK:
            return Role.ATTRIBUTE
        near = self.words[self.landmark[-1]] if self.landmark else ""
        if is_person(near) or near in PRONOUNS:
            return Role.LANDMARK
        target = self.words[self.noun[-1]] if self.noun else ""
        could_be = not target or is_animate(target) or is_clothing(target)
        return Role.ATTRIBUTE if could_be else Role.LANDMARK

    def relation_at(self, at: int) -> tuple[str, int]:
        """Return the longest preposition at a place, in its usual form, and where it ends."""
        for end in range(min(at + _LONGEST, len(self.words)), at, -1):
            if name := lex.RELATIONS.get(tuple(self.words[at:end])):
                return name, end
        return self.words[at], at + 1


def quantity(word: str) -> int:
    """Return the number that a word names; 0 for "several" and "group".

    >>> quantity("three"), quantity("pair"), quantity("several")
    (3, 2, 0)
    """
    return {"pair": 2, "couple": 2, "duo": 2, "trio": 3}.get(word) or lex.NUMBERS.get(word, 0)
