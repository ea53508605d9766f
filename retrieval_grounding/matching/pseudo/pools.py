"""Pools: the objects of an image that a noun phrase may mean, such as "the red cars"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...core.colors import COLORS
from .objects import DetectedObject

__all__ = ["Pool", "color_pools", "label_pool"]


COLOR_SHARE = 0.45
MAYBE_COLOR_SHARE = 0.2
MAYBE_SIMILAR_SHARE = 0.5
NEGLIGIBLE_AREA = 0.3  # a doubtful object smaller than this share of the sure ones is ignored

# Colors that cameras and people easily confuse.
_SIMILAR = {
    "black": "", "white": "gray", "gray": "white black", "brown": "orange red",
    "red": "pink orange brown", "orange": "yellow brown red", "yellow": "orange", "green": "",
    "blue": "purple", "purple": "pink blue", "pink": "red purple",
}  # fmt: skip
_SIMILAR_COLUMNS = {
    name: [COLORS.index(other) for other in others.split()] for name, others in _SIMILAR.items()
}
_SKIN = frozenset(("brown", "orange", "pink"))
# Things that show their background or content, or always look the same.
_COLORLESS = frozenset(
    "bicycle,skis,kite,bird,airplane,fork,knife,spoon,tennis racket,baseball bat,scissors,"
    "toothbrush,wine glass,dining table,zebra,giraffe,pizza,broccoli,banana,carrot,orange,"
    "sandwich,hot dog,potted plant,traffic light,stop sign,mouse,clock,bench,tv,laptop,"
    "cell phone".split(",")
)


@dataclass(frozen=True, eq=False)
class Pool:
    """The objects that a noun phrase may mean.

    Parameters
    ----------
    labels : frozenset of str
        Class names that the noun covers.
    color : str
        Color named in the noun phrase, or the empty string.
    sure : sequence of DetectedObject
        Objects that certainly belong to the pool.
    maybe : sequence of DetectedObject
        All objects that might belong to it, the sure ones included.
    everything : bool
        Whether the image has no other sure objects, so that the noun may be left out ("the left
        one").
    """

    labels: frozenset[str]
    color: str
    sure: Sequence[DetectedObject]
    maybe: Sequence[DetectedObject]
    everything: bool


def label_pool(objects: Sequence[DetectedObject], labels: frozenset[str]) -> Pool:
    """Return the objects of an image that have one of `labels`."""
    sure = [thing for thing in objects if thing.sure and thing.label in labels]
    negligible = NEGLIGIBLE_AREA * min((thing.area for thing in sure), default=0)
    maybe = [
        thing
        for thing in objects
        if thing.labels & labels and (thing.area > negligible or not thing.doubtful)
    ]
    all_sure = sum(thing.sure for thing in objects)
    return Pool(labels, "", sure, maybe, everything=len(sure) == all_sure)


def color_pools(pool: Pool) -> Iterator[Pool]:
    """Yield the parts of a pool that have a color."""
    if pool.labels & _COLORLESS:
        return
    for column, name in enumerate(COLORS):
        sure = [thing for thing in pool.sure if thing.shares[column] >= COLOR_SHARE]
        if not sure or ("person" in pool.labels and name in _SKIN):
            continue
        maybe = [thing for thing in pool.maybe if _may_have_color(thing, name)]
        yield Pool(pool.labels, name, sure, maybe, pool.everything)


def _may_have_color(thing: DetectedObject, name: str) -> bool:
    share = thing.shares[COLORS.index(name)]
    similar = sum(thing.shares[column] for column in _SIMILAR_COLUMNS[name])
    return share >= MAYBE_COLOR_SHARE or share + similar >= MAYBE_SIMILAR_SHARE
