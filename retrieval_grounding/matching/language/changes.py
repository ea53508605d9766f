"""Changed phrases: phrases that differ in one attribute, noun or relation, as hard negatives.

A changed phrase need not be false of every region of its image, since "two" things may be there
and a "small" one beside a large one: whoever trains with it leaves out those whose new words
another description of the image has.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from ...core.colors import COLORS
from . import lexicon as lex
from .kinds import (
    ADJECTIVE,
    AND,
    DETERMINER,
    NOUN,
    ORDINAL,
    PARTICIPLE,
    PLACE,
    PREPOSITION,
    VERB,
    kind_of,
)
from .parse import parse_phrase
from .parts import PhraseParts, Role
from .siblings import HAIR_COLORS, MASS_NOUNS, OPPOSITES, SIBLINGS, SIMILAR_COLORS
from .words import PAIRED, fix_articles, is_plural, plural, singular

__all__ = ["ChangedPhrase", "changed_phrases"]


_SWAPPED_RELATIONS = frozenset(
    ("left of", "right of", "above", "below", "behind", "in front of", "next to", "near", "on")
)
_OPPOSED = frozenset(("left of", "right of", "above", "below", "behind", "on"))
_DESCRIBED = frozenset((Role.NOUN, Role.ATTRIBUTE, Role.LANDMARK))
_NOUN_KINDS = {Role.NOUN: "noun", Role.ATTRIBUTE: "part", Role.LANDMARK: "landmark"}
_OF_DESCRIPTION = ("size", "age", "material", "pattern", "shape", "state")
_COUNTS = ("two", "three", "four", "five")
_INSIDE = frozenset((ADJECTIVE, NOUN, PARTICIPLE, AND, PLACE, ORDINAL))
_ARTICLES = frozenset(("a", "an", "the"))


@dataclass(frozen=True, slots=True)
class ChangedPhrase:
    """A phrase with one change.

    Parameters
    ----------
    phrase : str
        The new phrase, in lower case.
    kind : str
        What was changed: ``color``, ``size``, ``age``, ``material``, ``pattern``, ``shape``,
        ``state``, ``action``, ``count``, ``negation``; ``noun`` (of the target), ``part`` (in an
        attribute, such as clothing), ``landmark``; ``relation``, ``order`` (target and landmark
        exchanged), ``place``, ``ordinal`` or ``comparative``.
    old, new : str
        The words that were replaced, and what replaced them; the two noun phrases of an ``order``.
    """

    phrase: str
    kind: str
    old: str
    new: str


def changed_phrases(phrase: str | PhraseParts, rng: Random) -> list[ChangedPhrase]:
    """Return phrases that differ from `phrase` in one thing each, in random order.

    Every word that can be changed is changed once; which of its alternatives takes its place is
    drawn. What is negated stays.

    Parameters
    ----------
    phrase : str or PhraseParts
        The phrase, or what :func:`.parse.parse_phrase` made of it.
    rng : random.Random
        Draws alternatives and the order.

    Examples
    --------
    >>> for change in sorted(changed_phrases("a man left of the bus", Random(1)), key=str):
    ...     print(change.kind, "|", change.phrase)
    landmark | a man left of the train
    relation | a man right of the bus
    noun | a woman left of the bus
    order | the bus left of a man
    """
    parts = phrase if isinstance(phrase, PhraseParts) else parse_phrase(phrase)
    found = {
        change.phrase: change
        for at in range(len(parts.words))
        if (change := _changed_at(parts, at, rng)) is not None
    }
    if (swapped := _swapped(parts)) is not None:
        found[swapped.phrase] = swapped
    changes = [change for text, change in found.items() if text != _text(parts.words)]
    rng.shuffle(changes)
    return changes


def _changed_at(parts: PhraseParts, at: int, rng: Random) -> ChangedPhrase | None:
    """Return the phrase with another word at one place, or None if none fits."""
    kind, choices = _alternatives(parts, at)
    if not choices:
        return None
    old, new = parts.words[at], rng.choice(choices)
    if kind in _NOUN_KINDS.values():
        return _with_noun(parts, at, kind, new)
    if new in ("without", "not wearing"):
        kind = "negation"
    words = [*parts.words]
    words[at] = new
    if new in ("farthest", "farther") and words[at + 1 : at + 2] == ["to"]:
        words[at + 1] = "from"
    return ChangedPhrase(_agreeing(words, at), kind, old, new)


def _alternatives(parts: PhraseParts, at: int) -> tuple[str, list[str]]:
    """Return what kind of word is at a place, and what may take its place."""
    word, role = parts.words[at], parts.roles[at]
    if role is Role.PLACE:
        for kind in ("ordinal", "comparative", "place"):
            if word in OPPOSITES[kind]:
                return kind, list(OPPOSITES[kind][word])
    elif role is Role.RELATION:
        return _relations(parts, at)
    elif role is Role.COUNT or (role in _DESCRIBED and word in _COUNTS):
        if word in _COUNTS or (word in lex.NUMBERS and lex.NUMBERS[word] > 1 and word != "both"):
            return "count", [other for other in _COUNTS if other != word]
    elif role in _DESCRIBED:
        return _descriptions(parts, at)
    return "", []


def _relations(parts: PhraseParts, at: int) -> tuple[str, list[str]]:
    word = parts.words[at]
    if word in OPPOSITES["action"] and kind_of(word) == VERB:
        return "action", list(OPPOSITES["action"][word])
    if parts.relation == "in front of" and word == "front":
        return "relation", ["back"]
    if parts.relation not in _OPPOSED or word not in OPPOSITES["relation"]:
        return "", []
    if word == "on" and parts.roles.count(Role.RELATION) > 1:  # "on top of", "on the left of"
        return "", []
    return "relation", list(OPPOSITES["relation"][word])


def _descriptions(parts: PhraseParts, at: int) -> tuple[str, list[str]]:
    word, role = parts.words[at], parts.roles[at]
    if word in ("with", "wearing") and role is Role.ATTRIBUTE:
        return _negations(parts, at)
    if word in lex.COLOR_WORDS and role is not Role.NOUN:
        return "color", _other_colors(parts, at)
    for kind in _OF_DESCRIPTION:
        if word in OPPOSITES[kind] and role is not Role.NOUN and _describes(parts, at, kind):
            return kind, _fitting(parts, at, kind)
    if word in OPPOSITES["action"] and role is Role.ATTRIBUTE:
        return "action", list(OPPOSITES["action"][word])
    if (role is Role.NOUN or kind_of(word) == NOUN) and not _in_compound(parts, at):
        return _NOUN_KINDS[role], list(_siblings(parts, at))
    return "", []


def _negations(parts: PhraseParts, at: int) -> tuple[str, list[str]]:
    """Return what denies "with" and "wearing", if an article or a garment follows."""
    after = parts.words[at + 1 : at + 2]
    if not after or after[0] in lex.POSSESSIVES or kind_of(after[0]) not in _INSIDE | {DETERMINER}:
        return "", []
    if any(word in (",", "and") for word in parts.words[at:]):
        return "", []  # what "without a hat and a coat" denies is not clear
    return "relation", list(OPPOSITES["relation"][parts.words[at]])


def _other_colors(parts: PhraseParts, at: int) -> list[str]:
    """Return colors unlike the one at a place, and not named in the phrase."""
    own = COLORS[lex.COLOR_WORDS[parts.words[at]]]
    named = {COLORS[lex.COLOR_WORDS[word]] for word in parts.words if word in lex.COLOR_WORDS}
    excluded = named | {own, *SIMILAR_COLORS[own].split()}
    following = parts.words[at + 1 : at + 2]
    if following and following[0] in ("hair", "haired", "beard"):
        return [name for name in HAIR_COLORS if name not in excluded and name != parts.words[at]]
    if following and lex.COLOR_WORDS.get(following[0]) == lex.COLOR_WORDS[parts.words[at]]:
        return []  # "navy blue" is one color
    if at and parts.words[at - 1] in lex.COLOR_WORDS and parts.roles[at - 1] == parts.roles[at]:
        before = parts.words[at - 1]
        if lex.COLOR_WORDS[before] == lex.COLOR_WORDS[parts.words[at]]:
            return []
    if at and parts.words[at - 1] in ("light", "dark", "bright", "pale"):
        excluded |= {"black", "white"}
    return [name for name in COLORS if name not in excluded]


def _describes(parts: PhraseParts, at: int, kind: str) -> bool:
    """Return whether a word is used as an adjective there."""
    if kind != "material" or parts.words[at] in ("wooden", "brick", "wicker"):
        return True
    made_of = parts.words[at - 1 : at] == ("of",) and "made" in parts.words[:at]
    following = parts.words[at + 1 : at + 2]
    return made_of or (bool(following) and kind_of(following[0]) in (ADJECTIVE, NOUN))


def _fitting(parts: PhraseParts, at: int, kind: str) -> list[str]:
    """Return the alternatives of an adjective that suit its noun."""
    word = parts.words[at]
    choices = list(OPPOSITES[kind][word])
    if word == "short":
        following = parts.words[at + 1 : at + 2]
        return ["long" if following and not _is_tall(following[0]) else "tall"]
    if kind == "material" and parts.words[at - 1 : at] == ("of",):
        choices = ["wood" if choice == "wooden" else choice for choice in choices]
    return choices


def _is_tall(noun: str) -> bool:
    return singular(noun) in lex.PEOPLE or singular(noun) in ("tree", "building", "tower", "pole")


def _in_compound(parts: PhraseParts, at: int) -> bool:
    """Return whether a noun belongs to the next one ("dog house"), or to the one before."""
    words, roles = parts.words, parts.roles
    if at + 1 < len(words) and roles[at + 1] in _DESCRIBED and kind_of(words[at + 1]) == NOUN:
        return (words[at], words[at + 1]) not in lex.COMPOUNDS or not _compound(words, at)
    return at > 0 and (words[at - 1], words[at]) in lex.COMPOUNDS


def _compound(words: tuple[str, ...], at: int) -> bool:
    return f"{words[at]} {singular(words[at + 1])}" in SIBLINGS


def _siblings(parts: PhraseParts, at: int) -> tuple[str, ...]:
    word = parts.words[at]
    if at + 1 < len(parts.words) and (word, parts.words[at + 1]) in lex.COMPOUNDS:
        return SIBLINGS.get(f"{word} {singular(parts.words[at + 1])}", ())
    mentioned = {singular(other) for other in parts.words}
    choices = SIBLINGS.get(word) or SIBLINGS.get(singular(word), ())
    return tuple(choice for choice in choices if singular(choice) not in mentioned)


def _with_noun(parts: PhraseParts, at: int, kind: str, new: str) -> ChangedPhrase:
    """Put a noun in the place of another, in the same number and with the right article."""
    words = [*parts.words]
    end = at + 1
    if at + 1 < len(words) and (words[at], words[at + 1]) in lex.COMPOUNDS:
        end = at + 2
    old, last = " ".join(words[at:end]), words[end - 1]
    if is_plural(last) and new not in MASS_NOUNS and not is_plural(new):
        new = plural(new)
    words[at:end] = [new]
    counted = not (new in PAIRED or new in MASS_NOUNS or is_plural(new))
    was_counted = not (last in PAIRED or last in MASS_NOUNS or is_plural(last))
    article = _article_before(words, at)
    if not counted and article >= 0 and words[article] in ("a", "an"):
        words[article] = ""
    elif counted and not was_counted and article < 0 and _ARTICLES.intersection(words):
        start = at
        while start and kind_of(words[start - 1]) == ADJECTIVE:
            start -= 1
        if not start or kind_of(words[start - 1]) in (PREPOSITION, VERB, AND):
            words[start] = f"a {words[start]}"
    return ChangedPhrase(fix_articles(_text(words)), kind, old, new)


def _article_before(words: list[str], at: int) -> int:
    """Return the place of the determiner of the noun at `at`, or -1."""
    before = at - 1
    while before >= 0 and kind_of(words[before]) in _INSIDE:
        before -= 1
    return before if before >= 0 and kind_of(words[before]) == DETERMINER else -1


def _agreeing(words: list[str], at: int) -> str:
    """Return words as text, with the article before the one at `at` in its right form."""
    if at and words[at - 1] in ("a", "an"):
        pair = fix_articles(f"{words[at - 1]} {words[at]}").split(" ")
        words = [*words[: at - 1], *pair, *words[at + 1 :]]
    return _text(words)


def _swapped(parts: PhraseParts) -> ChangedPhrase | None:
    """Exchange the target and the landmark, if the phrase is nothing but both and a relation."""
    roles = parts.roles
    if parts.relation not in _SWAPPED_RELATIONS or Role.PLACE in roles or Role.NEGATED in roles:
        return None
    if not parts.named or Role.RELATION not in roles:
        return None
    start = roles.index(Role.RELATION)
    end = len(roles) - roles[::-1].index(Role.RELATION)
    target, landmark = parts.words[:start], parts.words[end:]
    if _text(_without_articles(landmark)) != parts.landmark or kind_of(landmark[-1]) != NOUN:
        return None
    if Role.LANDMARK in roles[:start] or "," in parts.words or "one" in landmark:
        return None
    if _text(_without_articles(target)) == parts.landmark:
        return None
    phrase = _text([*landmark, *parts.words[start:end], *target])
    return ChangedPhrase(phrase, "order", _text(target), _text(landmark))


def _without_articles(words: tuple[str, ...]) -> list[str]:
    start = 0
    while start < len(words) and words[start] in lex.DETERMINERS:
        start += 1
    return list(words[start:])


def _text(words: list[str] | tuple[str, ...]) -> str:
    return " ".join(word for word in words if word).replace(" ,", ",")
