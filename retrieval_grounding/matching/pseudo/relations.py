"""Relations between two objects, such as "left of" and "riding", and what they single out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..language.lexicon import PEOPLE
from .compare import CLEARLY, EDGE_SLACK, Compare, swapped
from .objects import DetectedObject
from .pools import Pool

__all__ = ["related_objects"]


def _shared_x(a: DetectedObject, b: DetectedObject) -> float:
    """Return the length of the common part along x; below 0 it is the gap."""
    return min(a.right, b.right) - max(a.left, b.left)


def _shared_y(a: DetectedObject, b: DetectedObject) -> float:
    """Return the length of the common part along y; below 0 it is the gap."""
    return min(a.bottom, b.bottom) - max(a.top, b.top)


def _touching(a: DetectedObject, b: DetectedObject) -> bool:
    return _shared_x(a, b) > -0.02 and _shared_y(a, b) > -0.02


def _near(a: DetectedObject, b: DetectedObject) -> bool:
    return _shared_x(a, b) > -0.2 and _shared_y(a, b) > -0.2


def _left_of(a: DetectedObject, b: DetectedObject) -> bool:
    return (
        CLEARLY["left"](a, b)
        and -0.35 < _shared_x(a, b) < 0.25 * min(a.width, b.width)
        and _shared_y(a, b) > 0.4 * min(a.height, b.height)
    )


def _maybe_left_of(a: DetectedObject, b: DetectedObject) -> bool:
    return a.x < b.x + EDGE_SLACK


def _above(a: DetectedObject, b: DetectedObject) -> bool:
    return (
        CLEARLY["top"](a, b)
        and -0.3 < _shared_y(a, b) < 0.1 * min(a.height, b.height)
        and _shared_x(a, b) > 0.5 * min(a.width, b.width)
    )


def _maybe_above(a: DetectedObject, b: DetectedObject) -> bool:
    return a.y < b.y + EDGE_SLACK


def _beside(a: DetectedObject, b: DetectedObject) -> bool:
    return (
        -0.05 < _shared_x(a, b) < 0.3 * min(a.width, b.width)
        and _shared_y(a, b) > 0.6 * min(a.height, b.height)
        and 1 / 12 < a.area / b.area < 12
    )


def _resting_on(a: DetectedObject, b: DetectedObject) -> bool:
    return (
        b.left <= a.left + EDGE_SLACK
        and a.right <= b.right + EDGE_SLACK
        and b.top + 0.1 * b.height < a.bottom < b.bottom - EDGE_SLACK
        and a.area < 0.7 * b.area
    )


def _riding(a: DetectedObject, b: DetectedObject) -> bool:
    return (
        b.left < a.x < b.right
        and a.top < b.top - 0.25 * a.height
        and b.top + 0.2 * b.height < a.bottom < b.bottom + 0.03
        and _shared_x(a, b) > 0.6 * min(a.width, b.width)
    )


def _standing_on(a: DetectedObject, b: DetectedObject) -> bool:
    """Whether b is a board at the feet of a."""
    return (
        a.left - 0.05 < b.x < a.right + 0.05
        and a.bottom - 0.25 * a.height < b.y < a.bottom + 0.1 * a.height
        and b.area < 0.6 * a.area
    )


def _carrying(a: DetectedObject, b: DetectedObject) -> bool:
    return (
        a.left < b.x < a.right
        and a.top - 0.2 * a.height < b.y < a.top + 0.85 * a.height
        and _shared_y(a, b) > 0
        and b.area < 0.6 * a.area
    )


class _Relation(NamedTuple):
    """When a relation certainly holds, when it might, and which labels it is used for.

    An empty set of labels stands for all.
    """

    name: str
    holds: Compare
    might_hold: Compare
    targets: frozenset[str] = frozenset()
    references: frozenset[str] = frozenset()


_PEOPLE = PEOPLE
_TABLES = frozenset(["dining table"])
_FURNITURE = frozenset(("couch", "bed", "bench"))
_BOARDS = frozenset("skateboard,surfboard,snowboard,skis".split(","))
_MOUNTS = frozenset("bicycle,motorcycle,horse,elephant".split(","))
_HELD = frozenset("umbrella,tennis racket,baseball bat,frisbee,cell phone,kite".split(","))
_CARRIED = _HELD | frozenset("backpack,handbag,suitcase,tie,baseball glove,teddy bear".split(","))
_TABLEWARE = frozenset(
    "bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,"
    "hot dog,pizza,donut,cake,laptop,mouse,remote,keyboard,cell phone,book,vase,potted plant".split(
        ","
    )
)
_LYING = frozenset("cat,dog,teddy bear,laptop,book,suitcase,handbag,backpack,remote".split(","))

_RELATIONS = (
    _Relation("left of", _left_of, _maybe_left_of),
    _Relation("right of", swapped(_left_of), swapped(_maybe_left_of)),
    _Relation("above", _above, _maybe_above),
    _Relation("below", swapped(_above), swapped(_maybe_above)),
    _Relation("next to", _beside, _near),
    _Relation("on", _resting_on, _touching, _TABLEWARE, _TABLES),
    _Relation("on", _resting_on, _touching, _LYING, _FURNITURE),
    _Relation("riding", _riding, _touching, _PEOPLE, _MOUNTS),
    _Relation("standing on", _standing_on, _touching, _PEOPLE, _BOARDS),
    _Relation("ridden by", swapped(_riding), _touching, _MOUNTS, _PEOPLE),
    _Relation("holding", _carrying, _touching, _PEOPLE, _HELD),
    _Relation("with", _carrying, _touching, _PEOPLE, _CARRIED),
    _Relation("carried by", swapped(_carrying), _touching, _CARRIED, _PEOPLE),
)


def related_objects(pool: Pool, reference: DetectedObject) -> Iterator[tuple[str, DetectedObject]]:
    """Yield relations that hold between exactly one object of `pool` and the reference.

    A relation that might hold for a second object is left out.
    """
    for relation in _RELATIONS:
        if relation.targets and not pool.labels <= relation.targets:
            continue
        if relation.references and reference.label not in relation.references:
            continue
        related = [thing for thing in pool.sure if relation.holds(thing, reference)]
        if len(related) != 1 or related[0] is reference:
            continue
        target = related[0]
        others = [thing for thing in pool.maybe if thing is not target and thing is not reference]
        if not any(relation.might_hold(thing, reference) for thing in others):
            yield relation.name, target
