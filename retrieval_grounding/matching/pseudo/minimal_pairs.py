"""Minimal pairs: two phrases that differ in one word or in the order, and mean different regions.

A matcher that answers both right has understood that word. One that looks at the words without
their order, or at the nouns alone, answers at most one of the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, permutations
from typing import NamedTuple

from ...core.types import Box
from .claims import Claim, find_claims
from .compare import CLEARLY, EDGE_SLACK, Compare, swapped
from .objects import DetectedObject
from .pools import Pool, label_pool
from .wording import nouns_for

__all__ = ["MinimalPair", "minimal_pairs"]


_OPPOSITES = (
    ("side", "left", "right"), ("side", "top", "bottom"), ("size", "largest", "smallest"),
    ("size", "tallest", "shortest"), ("depth", "closest", "farthest"),
)  # fmt: skip
_RANKS = {1: "first", 2: "second", 3: "third"}
_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}


def _before(axis: str) -> Compare:
    """Return whether a may come before b, even if not clearly."""
    return lambda a, b: getattr(a, axis) < getattr(b, axis) + EDGE_SLACK


_BESIDE: dict[str, tuple[Compare, Compare, str]] = {
    "to the left of": (CLEARLY["left"], _before("x"), "to the right of"),
    "to the right of": (CLEARLY["right"], swapped(_before("x")), "to the left of"),
    "above": (CLEARLY["top"], _before("y"), "below"),
    "below": (CLEARLY["bottom"], swapped(_before("y")), "above"),
}
"""For each relation, when it certainly holds, when it might, and its opposite."""


class MinimalPair(NamedTuple):
    """Two phrases about one image, and what each of them means.

    Parameters
    ----------
    kind : str
        What differs: ``color``, ``noun``, ``side``, ``size``, ``depth``, ``ordinal``,
        ``relation``, ``order`` (target and landmark exchanged) or ``count``.
    phrases : tuple of 2 str
        Lower case.
    boxes : tuple of 2 Box
        Corners as fractions of the image's sides; the box around all members of a group.
    """

    kind: str
    phrases: tuple[str, str]
    boxes: tuple[Box, Box]


def minimal_pairs(
    objects: Sequence[DetectedObject], label_sets: Iterable[frozenset[str]] | None = None
) -> list[MinimalPair]:
    """Return all minimal pairs about the objects of one image.

    Both phrases hold, with a margin, for exactly one object or group; see :mod:`.claims`.

    Parameters
    ----------
    objects : sequence of DetectedObject
        All objects of one image.
    label_sets : iterable of frozenset of str, optional
        Sets of class names that a noun covers; by default, each class by itself.

    Examples
    --------
    >>> from functools import partial
    >>> dog = partial(DetectedObject, label="dog", labels=frozenset(["dog"]), sure=True,
    ...               doubtful=False, shares=[0.0] * 11)
    >>> two = [dog(row=1, left=0.1, top=0.4, right=0.3, bottom=0.6),
    ...        dog(row=2, left=0.6, top=0.4, right=0.8, bottom=0.6)]
    >>> minimal_pairs(two)[0].phrases
    ('the left dog', 'the right dog')
    """
    sets = list(label_sets or sorted({frozenset([o.label]) for o in objects if o.sure}, key=sorted))
    claims = list(find_claims(objects, sets))
    pools = [pool for labels in sets if (pool := label_pool(objects, labels)).sure]
    makers: tuple[Iterator[MinimalPair], ...] = (
        _opposites(claims), _ordinals(claims), _relations(pools), _descriptions(claims),
        _counts(pools),
    )  # fmt: skip
    pairs: dict[frozenset[str], MinimalPair] = {}
    for maker in makers:
        for pair in maker:
            pairs.setdefault(frozenset(pair.phrases), pair)
    return list(pairs.values())


def _opposites(claims: Sequence[Claim]) -> Iterator[MinimalPair]:
    """Yield "left" against "right", "largest" against "smallest" and the like."""
    for kind, one, other in _OPPOSITES:
        for first, second in _pairs(claims, kind, one, other):
            phrases = f"the {one} {_name(first.pool)}", f"the {other} {_name(first.pool)}"
            yield _pair(kind, phrases, first.target, second.target)


def _pairs(
    claims: Sequence[Claim], kind: str, one: str, other: str
) -> Iterator[tuple[Claim, Claim]]:
    """Yield claims about one pool and two directions."""
    of_kind = [claim for claim in claims if claim.kind == kind]
    for first in of_kind:
        for second in of_kind:
            if (first.direction, second.direction) == (one, other) and first.pool is second.pool:
                yield first, second


def _ordinals(claims: Sequence[Claim]) -> Iterator[MinimalPair]:
    """Yield "second from the left" against "from the right", and against "third"."""
    counted = [claim for claim in claims if claim.kind == "ordinal"]
    for first, second in combinations(counted, 2):
        differ = (first.direction != second.direction) + (first.rank != second.rank)
        if first.pool is second.pool and differ == 1 and first.target is not second.target:
            if {first.direction, second.direction} in ({"left", "top"}, {"right", "bottom"}):
                continue
            phrases = (_ordinal(first), _ordinal(second))
            yield _pair("ordinal", phrases, first.target, second.target)


def _ordinal(claim: Claim) -> str:
    return f"the {_RANKS[claim.rank]} {_name(claim.pool)} from the {claim.direction}"


def _relations(pools: Sequence[Pool]) -> Iterator[MinimalPair]:
    """Yield "a left of b" against "a right of b" and against "b left of a"."""
    for pool, other in permutations(pools, 2):
        if pool.labels & other.labels:
            continue
        for words, (_, _, opposite) in _BESIDE.items():
            target = _related(pool, other, words)
            if target is None:
                continue
            phrase = f"the {_name(pool)} {words} a {_name(other)}"
            if (across := _related(pool, other, opposite)) is not None and across is not target:
                phrases = phrase, f"the {_name(pool)} {opposite} a {_name(other)}"
                yield _pair("relation", phrases, target, across)
            if (back := _related(other, pool, words)) is not None:
                phrases = phrase, f"the {_name(other)} {words} a {_name(pool)}"
                yield _pair("order", phrases, target, back)


def _related(pool: Pool, other: Pool, words: str) -> DetectedObject | None:
    """Return the only member of a pool that is, for example, left of any member of the other."""
    holds, might_hold, _ = _BESIDE[words]
    related = [thing for thing in pool.sure if any(holds(thing, near) for near in other.sure)]
    possible = [
        thing for thing in pool.maybe if any(might_hold(thing, near) for near in other.maybe)
    ]
    return related[0] if len(related) == 1 and related == possible else None


def _descriptions(claims: Sequence[Claim]) -> Iterator[MinimalPair]:
    """Yield "the red circle" against "the blue circle" and against "the red square"."""
    alone = [claim for claim in claims if claim.kind == "label"]
    for first, second in combinations(alone, 2):
        if first.target is second.target:
            continue
        same_noun = first.pool.labels == second.pool.labels
        same_color = first.pool.color == second.pool.color
        if same_noun == same_color or (same_noun and not (first.pool.color and second.pool.color)):
            continue
        phrases = f"the {_name(first.pool)}", f"the {_name(second.pool)}"
        yield _pair("color" if same_noun else "noun", phrases, first.target, second.target)


def _counts(pools: Sequence[Pool]) -> Iterator[MinimalPair]:
    """Yield "a group of two" against "a group of three"; a group is all of one kind."""
    sized: dict[int, list[Pool]] = {}
    for pool in pools:
        if len(pool.sure) == len(pool.maybe):
            sized.setdefault(len(pool.sure), []).append(pool)
    alone = {
        count: same[0] for count, same in sized.items() if count in _NUMBERS and len(same) == 1
    }
    for few, many in combinations(sorted(alone), 2):
        phrases = f"a group of {_NUMBERS[few]}", f"a group of {_NUMBERS[many]}"
        yield MinimalPair("count", phrases, (_around(alone[few]), _around(alone[many])))


def _around(pool: Pool) -> Box:
    return (
        min(thing.left for thing in pool.sure),
        min(thing.top for thing in pool.sure),
        max(thing.right for thing in pool.sure),
        max(thing.bottom for thing in pool.sure),
    )


def _pair(
    kind: str, phrases: tuple[str, str], first: DetectedObject, second: DetectedObject
) -> MinimalPair:
    one, other = ((thing.left, thing.top, thing.right, thing.bottom) for thing in (first, second))
    return MinimalPair(kind, phrases, (one, other))


def _name(pool: Pool) -> str:
    return f"{pool.color} {nouns_for(pool.labels)[0]}".strip()
