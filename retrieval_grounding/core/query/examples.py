"""Examples: images, regions and vectors to find things that look alike, and their text form."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import QueryError
from ..types import Box
from .units import parse_number, shown_number

__all__ = ["Example", "example_text", "parse_example"]


_HASH = re.compile(r"[0-9a-f]{6,32}")
_REGION = re.compile(r"([0-9a-f]{6,32}):(\d{1,19})")
_WEIGHT = re.compile(r"\+(\d*\.?\d+)$")
_BOX = re.compile(r":([0-9.]+),([0-9.]+),([0-9.]+),([0-9.]+)$")


@dataclass(frozen=True)
class Example:
    """An image, a box in it, a region of the index, or a vector, to find things that look alike.

    Parameters
    ----------
    image : path, URL, bytes, file, PIL image or array, optional
        An image, as for :func:`load_image`. Only paths and URLs have a text form.
    box : tuple of 4 float, optional
        The part of `image` to look for, in pixels of the upright image; all of it if left out.
    content_hash : str, optional
        Instead of `image`: the hash of an image of the index, or its first characters (at least
        six).
    region : int, optional
        With `content_hash`: the number of the region in its image, 0 for the whole image, or the
        ``region_id`` of a hit.
    vector : sequence of float, optional
        Instead of both: an embedding of the index's encoder.
    weight : float
        How much it counts beside the other clauses of the query, more than 0.

    Raises
    ------
    QueryError
        If it is not exactly one of the three, or a value is impossible.

    Examples
    --------
    >>> Example("dog.jpg", box=(10, 20, 200, 300)).box
    (10.0, 20.0, 200.0, 300.0)
    """

    image: Any = None
    box: Box | None = None
    content_hash: str | None = None
    region: int | None = None
    vector: Sequence[float] | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        given = [self.image is not None, self.content_hash is not None, self.vector is not None]
        if sum(given) != 1:
            raise QueryError("an example is an image, a region of the index, or a vector")
        if self.box is not None:
            self._check_box()
        if self.content_hash is not None:
            if not _HASH.fullmatch(self.content_hash):
                raise QueryError(
                    f"{self.content_hash!r} is not a content hash: six to 32 of the characters "
                    "0-9 and a-f, as 'query --json' prints them"
                )
            if self.region is None:
                object.__setattr__(self, "region", 0)
        if self.region is not None and (self.content_hash is None or self.region < 0):
            raise QueryError("a region is the number of a region of an image of the index")
        if self.vector is not None:
            values = tuple(float(value) for value in self.vector)
            if not values or not all(map(math.isfinite, values)) or not any(values):
                raise QueryError("the vector of an example must have finite numbers, not all zero")
            object.__setattr__(self, "vector", values)
        if not (math.isfinite(self.weight) and 0 < self.weight <= 1000):
            raise QueryError(f"a weight must be more than 0 and at most 1000, not {self.weight}")

    def _check_box(self) -> None:
        assert self.box is not None
        x1, y1, x2, y2 = box = tuple(float(value) for value in self.box)
        if self.image is None or not (all(map(math.isfinite, box)) and x1 < x2 and y1 < y2):
            raise QueryError(
                "the box of an example is x1, y1, x2, y2 in pixels of its image, with x1 < x2 and "
                "y1 < y2"
            )
        object.__setattr__(self, "box", box)


def parse_example(text: str) -> Example:
    """Return the example that a text names.

    A name such as ``abcdef:1`` is a region of the index; ``./abcdef:1`` is a file.

    Raises
    ------
    QueryError
        If a value is impossible.

    Examples
    --------
    >>> parse_example("dog.jpg:10,20,200,300+0.5").weight
    0.5
    >>> parse_example("9f86d081:3").region
    3
    """
    weight = 1.0
    if match := _WEIGHT.search(text):
        weight, text = float(match[1]), text[: match.start()]
    if match := _REGION.fullmatch(text):
        return Example(content_hash=match[1], region=int(match[2]), weight=weight)
    box = None
    if match := _BOX.search(text):
        try:
            x1, y1, x2, y2 = map(parse_number, match.groups())
        except ValueError as error:
            raise QueryError(f"the box of an example has a value that is wrong: {error}") from error
        box, text = (x1, y1, x2, y2), text[: match.start()]
    if not text:
        raise QueryError("an example needs the name of an image")
    return Example(text, box, weight=weight)


def example_text(example: Example) -> str:
    """Return the text form of an example.

    Raises
    ------
    QueryError
        If it has none.
    """
    weight = "" if example.weight == 1 else f"+{shown_number(example.weight)}"
    if example.content_hash is not None:
        return f"{example.content_hash}:{example.region}{weight}"
    if example.image is None:
        raise QueryError("a query with a vector has no text form; name an image or a region")
    if not isinstance(example.image, (str, os.PathLike)):
        raise QueryError("a query with pixels has no text form; name a file, or a region")
    text = os.fspath(example.image)
    if example.box is not None:
        text += ":" + ",".join(map(shown_number, example.box))
    elif _BOX.search(text):
        raise QueryError(f"the name {text!r} looks like a box, so it has no text form; rename it")
    elif _REGION.fullmatch(text):
        text = os.path.join(".", text)  # noqa: PTH118 - Path drops the dot
    if not weight and _WEIGHT.search(text):
        weight = "+1"
    return text + weight
