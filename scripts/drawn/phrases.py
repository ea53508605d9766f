"""Expressions that single out one thing of a scene, with what they mean.

A phrase is a category, which color, size and neighbor narrow down, and perhaps an order. It is
kept only if exactly one thing fits, and no other nearly does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product

from .scenes import Thing

__all__ = ["expressions"]

_NEAR, _FAR = 26.0, 40.0  # pixels between things that are next to each other, or clearly are not
_MARGIN = 16.0  # pixels between centers, for words of order
_RATIO = 1.5  # of areas, for words of size
_ORDINALS = ("first", "second", "third", "fourth")


def expressions(things: Sequence[Thing]) -> list[tuple[Thing, str, str]]:
    """Return every (thing, phrase, kind); each phrase describes exactly one thing.

    The kinds are ``name``, ``color``, ``size``, ``place``, ``order`` and ``relation``; a phrase
    with an order and a relation is an ``order relation``.
    """
    found = {phrase: (thing, kind) for thing, phrase, kind in _all(things)}
    return [(thing, phrase, kind) for phrase, (thing, kind) in found.items()]


def _all(things: Sequence[Thing]) -> Iterator[tuple[Thing, str, str]]:
    categories = dict.fromkeys(thing.category for thing in things)
    for category, color in product(categories, [None, *{t.color for t in things}]):
        rivals = [t for t in things if t.category == category and color in (None, t.color)]
        noun = category if color is None else f"{color} {category}"
        yield from _described(rivals, noun, "", "name" if color is None else "color")
        for neighbor, name in _landmarks(things, category):
            near = [t for t in rivals if t.distance(neighbor) <= _NEAR]
            if not any(_NEAR < t.distance(neighbor) <= _FAR for t in rivals):
                yield from _described(near, noun, f" next to the {name}", "relation")


def _described(
    rivals: Sequence[Thing], noun: str, ending: str, kind: str
) -> Iterator[tuple[Thing, str, str]]:
    if len(rivals) == 1:
        yield rivals[0], f"the {noun}{ending}", kind
        return
    also = f" {kind}" if kind == "relation" else ""
    for thing in rivals:
        others = [other for other in rivals if other is not thing]
        if others and all(thing.area > _RATIO * other.area for other in others):
            yield thing, f"the largest {noun}{ending}", f"size{also}"
        if others and all(other.area > _RATIO * thing.area for other in others):
            yield thing, f"the smallest {noun}{ending}", f"size{also}"
    for axis, ends in (("x", ("left", "right")), ("y", ("top", "bottom"))):
        row = sorted(rivals, key=lambda thing: getattr(thing, axis))
        places = [getattr(thing, axis) for thing in row]
        if len(row) < 2 or min(b - a for a, b in pairwise(places)) < _MARGIN:
            continue
        for side, ordered in zip(ends, (row, row[::-1]), strict=True):
            if not ending:
                yield ordered[0], f"the {noun} on the {side}", "place"
            for number, thing in enumerate(ordered):
                if number and axis == "x":
                    phrase = f"the {_ORDINALS[number]} {noun} from the {side}{ending}"
                    yield thing, phrase, f"order{also}"


def _landmarks(things: Sequence[Thing], category: str) -> Iterator[tuple[Thing, str]]:
    """Yield things of other categories whose name means only them."""
    for thing in things:
        alike = [other for other in things if other.category == thing.category]
        if thing.category == category:
            continue
        if len(alike) == 1:
            yield thing, thing.category
        elif sum(other.color == thing.color for other in alike) == 1:
            yield thing, f"{thing.color} {thing.category}"
