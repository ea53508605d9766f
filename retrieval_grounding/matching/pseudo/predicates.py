"""What can be said of exactly one object of an image: claims that no other object could meet.

A claim chooses one object out of a pool ("the dogs", "the red cars"). Pools know three answers:
*sure* members may be chosen, *maybe* members (doubtful detections, unclear colors) may not, but a
claim must fail for them as well. All comparisons ask for a margin, so that nothing is a near tie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...core.colors import COLORS
from .objects import DetectedObject

__all__ = ["CLEARLY", "Claim", "Pool", "find_claims"]


SIDE_MARGIN = 0.08  # share of the width
HEIGHT_MARGIN = 0.14  # share of the height; people rarely sort by it what stands side by side
LARGEST_IN_CORNER = 0.6  # share of the width or height
EDGE_SLACK = 0.02
AREA_RATIO = 1.5
HEIGHT_RATIO = 1.3
COLOR_SHARE = 0.45
MAYBE_COLOR_SHARE = 0.2
MAYBE_SIMILAR_SHARE = 0.5
OVERLOOKED_AREA = 0.3  # a doubtful thing this much smaller is not what anybody means
LONGEST_ROW = 6  # nobody counts further

Compare = Callable[[DetectedObject, DetectedObject], bool]


@dataclass(frozen=True, eq=False)
class Pool:
    """The objects that a noun phrase may mean.

    Parameters
    ----------
    labels : frozenset of str
        Class names that the noun covers.
    color : str
        Color that is named, or nothing.
    sure, maybe : sequences of DetectedObject
        What certainly belongs to it, and all that might.
    everything : bool
        Whether no other object is sure, so that the noun may be left out ("the left one").
    """

    labels: frozenset[str]
    color: str
    sure: Sequence[DetectedObject]
    maybe: Sequence[DetectedObject]
    everything: bool


class Claim(NamedTuple):
    """One object is the only one of its pool for which something holds.

    `kind` is ``label`` (there is no other), ``place`` (where the only one is), ``side``,
    ``corner``, ``middle``, ``ordinal``, ``size``, ``depth`` or ``relation``. `direction` says
    which side, size or relation; `rank` counts from there; `reference` is the pool of the other
    object of a relation, which has no other member.
    """

    target: DetectedObject
    pool: Pool
    kind: str
    direction: str = ""
    rank: int = 0
    reference: Pool | None = None


def _before(low: str, high: str, margin: float) -> Compare:
    """Compare along an axis: the whole extent lies clearly nearer to 0."""

    def compare(a: DetectedObject, b: DetectedObject) -> bool:
        a_low, a_high = getattr(a, low), getattr(a, high)
        b_low, b_high = getattr(b, low), getattr(b, high)
        return bool(
            (b_low + b_high - a_low - a_high) / 2 > margin
            and a_low <= b_low + EDGE_SLACK
            and a_high <= b_high + EDGE_SLACK
        )

    return compare


def _closer(a: DetectedObject, b: DetectedObject) -> bool:
    """Compare by perspective: what is nearer looks larger and stands lower in the image."""
    lower = a.bottom - b.bottom
    return (lower > 0.05 and a.area > 1.4 * b.area) or (
        lower > -EDGE_SLACK and a.bottom > 0.95 and a.area > 3 * b.area
    )


def _flip(compare: Compare) -> Compare:
    return lambda a, b: compare(b, a)


def _larger(a: DetectedObject, b: DetectedObject) -> bool:
    return a.area > AREA_RATIO * b.area


def _taller(a: DetectedObject, b: DetectedObject) -> bool:
    return a.height > HEIGHT_RATIO * b.height


_left, _above = _before("left", "right", SIDE_MARGIN), _before("top", "bottom", HEIGHT_MARGIN)

CLEARLY: dict[str, Compare] = {
    "left": _left, "right": _flip(_left), "top": _above, "bottom": _flip(_above),
    "largest": _larger, "smallest": _flip(_larger), "tallest": _taller, "shortest": _flip(_taller),
    "closest": _closer, "farthest": _flip(_closer),
}  # fmt: skip
"""Whether the first object is clearly more so than the second."""

_SIDES = ("left", "right", "top", "bottom")
_CORNERS = [(vertical, side) for vertical in ("top", "bottom") for side in ("left", "right")]
_FLYING = frozenset("airplane,bird,kite,frisbee,sports ball,traffic light,clock".split(","))
_UPRIGHT = frozenset(
    "person,giraffe,bottle,vase,potted plant,fire hydrant,parking meter,truck,bus".split(",")
)

# Colors that a camera, or a speaker, easily takes for one another.
_SIMILAR = {
    "black": "", "white": "gray", "gray": "white black", "brown": "orange red",
    "red": "pink orange brown", "orange": "yellow brown red", "yellow": "orange", "green": "",
    "blue": "purple", "purple": "pink blue", "pink": "red purple",
}  # fmt: skip
_SIMILAR_COLUMNS = {
    name: [COLORS.index(other) for other in others.split()] for name, others in _SIMILAR.items()
}
_SKIN = frozenset(("brown", "orange", "pink"))
# Things that let the background through, show their content, or always look the same.
_COLORLESS = frozenset(
    "bicycle,skis,kite,bird,airplane,fork,knife,spoon,tennis racket,baseball bat,scissors,"
    "toothbrush,wine glass,dining table,zebra,giraffe,pizza,broccoli,banana,carrot,orange,"
    "sandwich,hot dog,potted plant,traffic light,stop sign,mouse,clock,bench,tv,laptop,"
    "cell phone".split(",")
)


def find_claims(
    objects: Sequence[DetectedObject], label_sets: Iterable[frozenset[str]]
) -> Iterator[Claim]:
    """Yield everything that holds for exactly one of `objects`, with a margin.

    Parameters
    ----------
    objects : sequence of DetectedObject
        All objects of one image.
    label_sets : iterable of frozenset of str
        Class names that some noun covers together; those that no object has are passed over.
    """
    pools = [pool for labels in label_sets if (pool := _pool(objects, labels)).sure]
    references = [pool for pool in pools if len(pool.maybe) == 1 and len(pool.labels) <= 2]
    for plain in pools:
        for pool in (plain, *_colored(plain)):
            yield from _alone(pool)
            if len(pool.sure) > 1:
                yield from _extremes(pool)
                yield from _in_a_row(pool)
            yield from _corners(pool)
            for other in references:
                if not other.labels & pool.labels:
                    yield from _related(pool, other)


def _pool(objects: Sequence[DetectedObject], labels: frozenset[str]) -> Pool:
    sure = [thing for thing in objects if thing.sure and thing.label in labels]
    overlooked = OVERLOOKED_AREA * min((thing.area for thing in sure), default=0)
    maybe = [
        thing
        for thing in objects
        if thing.labels & labels and (thing.area > overlooked or not thing.doubtful)
    ]
    return Pool(labels, "", sure, maybe, len(sure) == sum(thing.sure for thing in objects))


def _colored(pool: Pool) -> Iterator[Pool]:
    """Yield the parts of a pool that have a color."""
    if pool.labels & _COLORLESS:
        return
    for column, name in enumerate(COLORS):
        sure = [thing for thing in pool.sure if thing.shares[column] >= COLOR_SHARE]
        if not sure or ("person" in pool.labels and name in _SKIN):
            continue
        similar = _SIMILAR_COLUMNS[name]
        maybe = [
            thing
            for thing in pool.maybe
            if (share := thing.shares[column]) >= MAYBE_COLOR_SHARE
            or share + sum(thing.shares[other] for other in similar) >= MAYBE_SIMILAR_SHARE
        ]
        yield Pool(pool.labels, name, sure, maybe, pool.everything)


def _alone(pool: Pool) -> Iterator[Claim]:
    if len(pool.maybe) != 1:
        return
    only = pool.sure[0]
    yield Claim(only, pool, "label")
    for direction, near in (("left", only.x), ("right", 1 - only.x)):
        if near < 0.33:
            yield Claim(only, pool, "place", direction)


def _extremes(pool: Pool) -> Iterator[Claim]:
    for direction, clearly in CLEARLY.items():
        if direction in ("closest", "farthest") and pool.labels & _FLYING:
            continue
        if direction in ("tallest", "shortest") and not pool.labels <= _UPRIGHT:
            continue
        for thing in pool.sure:
            if all(other is thing or clearly(thing, other) for other in pool.maybe):
                yield Claim(thing, pool, _KIND_OF[direction], direction)
                break


_KIND_OF = {
    **dict.fromkeys(_SIDES, "side"),
    **dict.fromkeys(("largest", "smallest", "tallest", "shortest"), "size"),
    **dict.fromkeys(("closest", "farthest"), "depth"),
}


def _in_a_row(pool: Pool) -> Iterator[Claim]:
    """Count along an axis, if every step is clear and nothing doubtful could be counted too."""
    count = len(pool.sure)
    if not 3 <= count <= LONGEST_ROW or len(pool.maybe) != count:
        return
    for axis, (start, end) in (("x", ("left", "right")), ("y", ("top", "bottom"))):
        row = sorted(pool.sure, key=lambda thing: getattr(thing, axis))
        if not all(map(CLEARLY[start], row, row[1:])):
            continue
        if axis == "x" and count % 2:
            yield Claim(row[count // 2], pool, "middle", rank=count // 2 + 1)
        for place, thing in enumerate(row):
            if place < 3:
                yield Claim(thing, pool, "ordinal", start, place + 1)
            if count - place <= 3:
                yield Claim(thing, pool, "ordinal", end, count - place)


def _corners(pool: Pool) -> Iterator[Claim]:
    for vertical, side in _CORNERS:
        inside, near = [], []
        for thing in pool.maybe:
            x = thing.x if side == "left" else 1 - thing.x
            y = thing.y if vertical == "top" else 1 - thing.y
            if x < 0.5 + SIDE_MARGIN and y < 0.5 + SIDE_MARGIN:
                near.append(thing)
                small = max(thing.width, thing.height) < LARGEST_IN_CORNER
                if x < 0.4 and y < 0.4 and small and thing in pool.sure:
                    inside.append(thing)
        if len(near) == len(inside) == 1:
            yield Claim(inside[0], pool, "corner", f"{vertical} {side}")


# Relations ---------------------------------------------------------------------------------------


def _shared_x(a: DetectedObject, b: DetectedObject) -> float:
    """Length of the common part along x; below 0 it is the gap."""
    return min(a.right, b.right) - max(a.left, b.left)


def _shared_y(a: DetectedObject, b: DetectedObject) -> float:
    return min(a.bottom, b.bottom) - max(a.top, b.top)


def _touch(a: DetectedObject, b: DetectedObject) -> bool:
    return _shared_x(a, b) > -0.02 and _shared_y(a, b) > -0.02


def _left_of(a: DetectedObject, b: DetectedObject) -> bool:
    return (
        CLEARLY["left"](a, b)
        and -0.35 < _shared_x(a, b) < 0.25 * min(a.width, b.width)
        and _shared_y(a, b) > 0.4 * min(a.height, b.height)
    )


def _over(a: DetectedObject, b: DetectedObject) -> bool:
    return (
        CLEARLY["top"](a, b)
        and -0.3 < _shared_y(a, b) < 0.1 * min(a.height, b.height)
        and _shared_x(a, b) > 0.5 * min(a.width, b.width)
    )


def _beside(a: DetectedObject, b: DetectedObject) -> bool:
    return (
        -0.05 < _shared_x(a, b) < 0.3 * min(a.width, b.width)
        and _shared_y(a, b) > 0.6 * min(a.height, b.height)
        and 1 / 12 < a.area / b.area < 12
    )


def _near(a: DetectedObject, b: DetectedObject) -> bool:
    return _shared_x(a, b) > -0.2 and _shared_y(a, b) > -0.2


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
    """Tell by the board, which lies at the feet of who stands on it."""
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
    """When a relation certainly holds, when it might, and between what it is spoken of."""

    name: str
    holds: Compare
    might: Compare
    targets: frozenset[str] = frozenset()  # none named: all
    references: frozenset[str] = frozenset()


_PEOPLE = frozenset(["person"])
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
_BEDDED = frozenset("cat,dog,teddy bear,laptop,book,suitcase,handbag,backpack,remote".split(","))

RELATIONS = (
    _Relation("left of", _left_of, lambda a, b: a.x < b.x + EDGE_SLACK),
    _Relation("right of", _flip(_left_of), lambda a, b: a.x > b.x - EDGE_SLACK),
    _Relation("above", _over, lambda a, b: a.y < b.y + EDGE_SLACK),
    _Relation("below", _flip(_over), lambda a, b: a.y > b.y - EDGE_SLACK),
    _Relation("next to", _beside, _near),
    _Relation("on", _resting_on, _touch, _TABLEWARE, frozenset(["dining table"])),
    _Relation("on", _resting_on, _touch, _BEDDED, frozenset(("couch", "bed", "bench"))),
    _Relation("riding", _riding, _touch, _PEOPLE, _MOUNTS),
    _Relation("standing on", _standing_on, _touch, _PEOPLE, _BOARDS),
    _Relation("ridden by", _flip(_riding), _touch, _MOUNTS, _PEOPLE),
    _Relation("holding", _carrying, _touch, _PEOPLE, _HELD),
    _Relation("with", _carrying, _touch, _PEOPLE, _CARRIED),
    _Relation("carried by", _flip(_carrying), _touch, _CARRIED, _PEOPLE),
)  # fmt: skip


def _related(pool: Pool, reference: Pool) -> Iterator[Claim]:
    (other,) = reference.sure
    for relation in RELATIONS:
        if relation.targets and not pool.labels <= relation.targets:
            continue
        if relation.references and other.label not in relation.references:
            continue
        fitting = [thing for thing in pool.sure if relation.holds(thing, other)]
        if len(fitting) == 1 and fitting[0] is not other:
            (chosen,) = fitting
            rest = (thing for thing in pool.maybe if thing is not chosen and thing is not other)
            if not any(relation.might(thing, other) for thing in rest):
                yield Claim(chosen, pool, "relation", relation.name, reference=reference)
