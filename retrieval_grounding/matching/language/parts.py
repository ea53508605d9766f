"""The parts of a phrase: what is meant, its attributes, where it is, and what it is near."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["PhraseParts", "Role"]


class Role(IntEnum):
    """What a word does in its phrase."""

    OTHER = 0
    """Articles, auxiliaries, and what no rule understands."""
    NOUN = 1
    """The noun of the target."""
    ATTRIBUTE = 2
    """What is said of the target alone, "and", "in" and "with" included."""
    COUNT = 3
    PLACE = 4
    """Sides, ordinals and comparatives, with their prepositions."""
    RELATION = 5
    LANDMARK = 6
    NEGATED = 7
    """A negation and what it denies."""


@dataclass(frozen=True, slots=True)
class PhraseParts:
    """The parts of a phrase; texts are in lower case without punctuation.

    Parameters
    ----------
    full : str
        The whole phrase.
    core : str
        The target with its attributes ("man in a red shirt") and without places, relations and
        what is negated; `full` if nothing is left.
    noun : str
        The noun of the target as it is written ("zebras", "fire hydrant"); `core` if there is none
        ("the left one").
    landmark : str
        Noun phrase of the first thing that the target is said to be near; may be empty.
    relation : str
        How the target relates to it: a preposition in its usual form ("left of", "next to", "on")
        or a verb ("holding"); empty without a landmark.
    named : bool
        Whether the phrase has a noun.
    colors : tuple of int
        Columns of :data:`retrieval_grounding.core.colors.COLORS` that the core names.
    count : int
        How many things are meant; 0 for a group of unknown size ("zebras", "several men").
    places : tuple of str
        Place words about the target, in order ("far", "left").
    ordinal : int
        Rank from 1 ("second dog"), -1 for "last", 0 without.
    comparatives : tuple of str
        Comparatives and superlatives other than places ("taller", "biggest").
    negated : tuple of str
        What the target is not or does not have ("glasses"); not in the core.
    words : tuple of str
        Words of the phrase; commas are among them.
    roles : tuple of Role
        What each of the words does.
    """

    full: str
    core: str
    noun: str
    landmark: str
    relation: str
    named: bool
    colors: tuple[int, ...]
    count: int
    places: tuple[str, ...]
    ordinal: int
    comparatives: tuple[str, ...]
    negated: tuple[str, ...]
    words: tuple[str, ...]
    roles: tuple[Role, ...]

    @property
    def group(self) -> bool:
        """Whether several things are meant."""
        return self.count != 1

    @property
    def spoken(self) -> list[tuple[str, Role]]:
        """The words with their roles, without commas."""
        pairs = zip(self.words, self.roles, strict=True)
        return [(word, role) for word, role in pairs if word != ","]
