"""Wording claims: a phrase drawn from all those that express the same claim."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from random import Random

from ...core.groups import plural
from ..language.words import fix_articles
from .claims import Claim
from .objects import DetectedObject
from .pools import Pool
from .templates import (
    COLOR_PATTERNS,
    COLOR_PATTERNS_PERSON,
    COUNT_WORDS,
    NOUNS,
    NOUNS_OF_GROUPS,
    ORDINAL_WORDS,
    PATTERNS,
    RELATION_WORDS,
    SIZE_WORDS,
    VERTICAL_WORDS,
)

__all__ = ["NounChoice", "draw_label_sets", "nouns_for", "word_claim"]


NounChoice = Callable[[frozenset[str], DetectedObject], str]
"""Returns a noun for an object of a pool with these labels."""

_SHARED_NOUNS = tuple(labels for labels in NOUNS if len(labels) > 1)
_SHARED_NOUN_RATE = 0.3
_VEHICLES = frozenset("car,truck,bus,bicycle,motorcycle".split(","))
_BESIDE = ("left of", "right of", "next to")
_PARKED_RATE = 0.3
_BARE_RATE = 0.25
_FAR_EDGE = 0.3  # share of the image's side


def draw_label_sets(labels: Iterable[str], rng: Random) -> list[frozenset[str]]:
    """Return sets of class names that a noun covers: each of `labels`, and some shared nouns.

    Of the nouns for several classes ("animal") that match any of `labels` only some are drawn,
    since people rarely use them.
    """
    present = sorted(set(labels))
    sets = [frozenset([label]) for label in present]
    for shared in _SHARED_NOUNS:
        if not shared.isdisjoint(present) and rng.random() < _SHARED_NOUN_RATE:
            sets.append(shared)
    return sets


def word_claim(
    claim: Claim,
    rng: Random,
    noun_of: NounChoice,
    size: str = "",
    describe: Callable[[DetectedObject, str], str] | None = None,
) -> str:
    """Return a phrase for a claim, drawn from all those that express it.

    Parameters
    ----------
    claim : Claim
        What to express.
    rng : random.Random
        Draws the words.
    noun_of : NounChoice
        Names the target, and the other object of a relation.
    size : str
        A size that also singles out the target (``"largest"``), to be mentioned as well.
    describe : function, optional
        Returns a noun phrase for the target, without article, given the noun for it.
    """
    pool = claim.pool
    patterns = _patterns(claim)
    can_be_bare = pool.everything and (pool.color or claim.kind not in ("label", "group"))
    bare = can_be_bare and rng.random() < _BARE_RATE  # "the left one" instead of "the left dog"
    if claim.kind == "group":
        word = rng.choice(_group_nouns(pool.labels))
    else:
        word = "one" if bare else noun_of(pool.labels, claim.target)
    if bare and not pool.color and not size:
        patterns += PATTERNS.get(f"{_family(claim)} bare", ())
    if describe and word != "one":
        noun = describe(claim.target, word)
    else:
        noun = _noun_phrase(pool, word, rng)
    if size:
        noun = f"{rng.choice(SIZE_WORDS[size])} {noun}"
    vertical, _, side = claim.direction.partition(" ")
    relation = rng.choice(RELATION_WORDS.get(claim.direction, ("",)))
    if claim.direction in _BESIDE and pool.labels <= _VEHICLES and rng.random() < _PARKED_RATE:
        relation = f"parked {relation}"
    pattern = rng.choice(_alternatives(rng.choice(patterns)))
    phrase = pattern.format(
        n=noun,
        w=word,
        d=claim.direction,
        v=rng.choice(VERTICAL_WORDS.get(vertical, ("",))),
        s=side,
        o=rng.choice(ORDINAL_WORDS.get(claim.rank, ("",))),
        k=rng.choice(COUNT_WORDS.get(claim.rank, ("",))),
        l=relation,
        r=noun_of(claim.reference.labels, claim.reference.sure[0]) if claim.reference else "",
    )
    return fix_articles(phrase)


def _family(claim: Claim) -> str:
    """Return the name under which `PATTERNS` has the claim's patterns."""
    if claim.kind in ("size", "depth"):
        return claim.direction
    if claim.kind in ("side", "place"):
        return "side" if claim.direction in ("left", "right") else "vertical"
    return claim.kind


def _patterns(claim: Claim) -> tuple[str, ...]:
    """Return the patterns that are true of the claim."""
    family = _family(claim)
    # "The left dog" suggests that there are others, so a lone object is only placed.
    patterns = () if claim.kind == "place" else PATTERNS[family]
    if claim.kind in ("side", "place"):
        distance = _distance_from_edge(claim)
        if distance < 0.5:  # the left one of two may still be on the right of the image
            patterns += PATTERNS[f"{family} half"]
        if distance < _FAR_EDGE and len(claim.pool.sure) > 2:
            patterns += PATTERNS.get(f"{family} far", ())
    if claim.kind == "group" and claim.rank:
        patterns += PATTERNS["group counted"]
    if len(claim.pool.maybe) == 2:
        patterns += PATTERNS.get(f"{family} of two", ())
    return patterns


def _distance_from_edge(claim: Claim) -> float:
    """Return the distance of the target's center from the edge that the direction names."""
    position = claim.target.x if claim.direction in ("left", "right") else claim.target.y
    return position if claim.direction in ("left", "top") else 1 - position


def nouns_for(labels: frozenset[str]) -> tuple[str, ...]:
    """Return the nouns for class names; an unknown class name is its own noun."""
    return NOUNS.get(labels) or tuple(labels)


def _group_nouns(labels: frozenset[str]) -> tuple[str, ...]:
    return NOUNS_OF_GROUPS.get(labels) or tuple(plural(noun) for noun in nouns_for(labels))


def _noun_phrase(pool: Pool, word: str, rng: Random) -> str:
    if not pool.color:
        return word
    patterns = COLOR_PATTERNS_PERSON if "person" in pool.labels else COLOR_PATTERNS
    color = rng.choice(("gray", "grey")) if pool.color == "gray" else pool.color
    return rng.choice(_alternatives(rng.choice(patterns))).format(w=word, c=color)


@cache
def _alternatives(pattern: str) -> tuple[str, ...]:
    """Return all texts that a pattern stands for; alternatives may be nested.

    >>> _alternatives("(the |){n}(s|)")
    ('the {n}s', 'the {n}', '{n}s', '{n}')
    """
    innermost = re.search(r"\(([^()]*)\)", pattern)
    if not innermost:
        return (pattern,)
    before, after = pattern[: innermost.start()], pattern[innermost.end() :]
    expanded: list[str] = []
    for choice in innermost[1].split("|"):
        expanded += _alternatives(before + choice + after)
    return tuple(expanded)
