"""Claims: what holds for exactly one object of an image.

A claim singles out one object of a pool ("the dogs", "the red cars"). A *sure* member may be the
target. A *maybe* member (a doubtful detection, an unclear color) may not, but a claim must also be
false for it. All comparisons require a margin, so that there are no near ties.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..language.lexicon import PEOPLE
from .compare import CLEARLY, SIDE_MARGIN
from .objects import DetectedObject
from .pools import Pool, color_pools, label_pool
from .relations import related_objects

__all__ = ["LONGEST_ROW", "Claim", "find_claims"]


LARGEST_IN_CORNER = 0.6  # share of the width or height
LONGEST_ROW = 6  # people do not count further

_FLYING = frozenset("airplane,bird,kite,frisbee,sports ball,traffic light,clock".split(","))
_UPRIGHT = frozenset(
    "giraffe,bottle,vase,potted plant,fire hydrant,parking meter,truck,bus".split(",")
).union(PEOPLE)
_KIND_OF_DIRECTION = {
    "left": "side", "right": "side", "top": "side", "bottom": "side",
    "largest": "size", "smallest": "size", "tallest": "size", "shortest": "size",
    "closest": "depth", "farthest": "depth",
}  # fmt: skip


class Claim(NamedTuple):
    """Something that holds for one object of a pool and for no other.

    Parameters
    ----------
    target : DetectedObject
        The object.
    pool : Pool
        The objects from which it is singled out.
    kind : str
        ``label`` (there is no other), ``place`` (where the only one is), ``side``, ``corner``,
        ``middle``, ``ordinal``, ``size``, ``depth``, ``relation``, or ``group`` (all of the pool
        together, see :mod:`.groups`).
    direction : str
        Which side, corner, size, distance or relation.
    rank : int
        Position from 1, counted from `direction`; of a group, how many they are, or 0.
    reference : Pool or None
        The pool whose only member is the other object of a relation.
    """

    target: DetectedObject
    pool: Pool
    kind: str
    direction: str = ""
    rank: int = 0
    reference: Pool | None = None


def find_claims(
    objects: Sequence[DetectedObject], label_sets: Iterable[frozenset[str]]
) -> Iterator[Claim]:
    """Yield everything that holds, with a margin, for exactly one of `objects`.

    Parameters
    ----------
    objects : sequence of DetectedObject
        All objects of one image.
    label_sets : iterable of frozenset of str
        Sets of class names that a noun covers; those that match no sure object are ignored.
    """
    pools = [label_pool(objects, labels) for labels in label_sets]
    pools = [pool for pool in pools if pool.sure]
    references = [pool for pool in pools if len(pool.maybe) == 1 and len(pool.labels) <= 2]
    for pool_of_labels in pools:
        for pool in (pool_of_labels, *color_pools(pool_of_labels)):
            yield from _only_one(pool)
            if len(pool.sure) > 1:
                yield from _extremes(pool)
                yield from _in_a_row(pool)
            yield from _corners(pool)
            for reference in references:
                if not reference.labels & pool.labels:
                    yield from _relations(pool, reference)


def _only_one(pool: Pool) -> Iterator[Claim]:
    if len(pool.maybe) != 1:
        return
    only = pool.sure[0]
    yield Claim(only, pool, "label")
    for direction, distance in (("left", only.x), ("right", 1 - only.x)):
        if distance < 0.33:
            yield Claim(only, pool, "place", direction)


def _extremes(pool: Pool) -> Iterator[Claim]:
    for direction, clearly in CLEARLY.items():
        if direction in ("closest", "farthest") and pool.labels & _FLYING:
            continue
        if direction in ("tallest", "shortest") and not pool.labels <= _UPRIGHT:
            continue
        for thing in pool.sure:
            if all(other is thing or clearly(thing, other) for other in pool.maybe):
                yield Claim(thing, pool, _KIND_OF_DIRECTION[direction], direction)
                break


def _in_a_row(pool: Pool) -> Iterator[Claim]:
    """Count along x and y, if every step is clear and nothing doubtful could be counted too."""
    count = len(pool.sure)
    if not 3 <= count <= LONGEST_ROW or len(pool.maybe) != count:
        return
    by_x = sorted(pool.sure, key=lambda thing: thing.x)
    by_y = sorted(pool.sure, key=lambda thing: thing.y)
    for row, first_side, last_side in ((by_x, "left", "right"), (by_y, "top", "bottom")):
        clearly = CLEARLY[first_side]
        if not all(clearly(row[place], row[place + 1]) for place in range(count - 1)):
            continue
        if row is by_x and count % 2:
            middle = count // 2
            yield Claim(row[middle], pool, "middle", rank=middle + 1)
        for place, thing in enumerate(row):
            rank, rank_from_end = place + 1, count - place
            if rank <= 3:
                yield Claim(thing, pool, "ordinal", first_side, rank)
            if rank_from_end <= 3:
                yield Claim(thing, pool, "ordinal", last_side, rank_from_end)


def _corners(pool: Pool) -> Iterator[Claim]:
    for vertical in ("top", "bottom"):
        for side in ("left", "right"):
            near, inside = [], []
            for thing in pool.maybe:
                x = thing.x if side == "left" else 1 - thing.x
                y = thing.y if vertical == "top" else 1 - thing.y
                if max(x, y) < 0.5 + SIDE_MARGIN:
                    near.append(thing)
                small = max(thing.width, thing.height) < LARGEST_IN_CORNER
                if max(x, y) < 0.4 and small and thing in pool.sure:
                    inside.append(thing)
            if len(near) == len(inside) == 1:
                yield Claim(inside[0], pool, "corner", f"{vertical} {side}")


def _relations(pool: Pool, reference: Pool) -> Iterator[Claim]:
    (other,) = reference.sure
    for name, target in related_objects(pool, other):
        yield Claim(target, pool, "relation", name, reference=reference)
