"""What somebody thinks of a hit: that a region is what a phrase means, or that it is not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .errors import FeedbackError, PhraseError
from .phrases import clean_phrase

__all__ = ["MAX_FEEDBACK_PHRASE", "FeedbackEntry", "Verdict"]

MAX_FEEDBACK_PHRASE = 1000

_ID = re.compile(r"[0-9a-f]{16}")
_HASH = re.compile(r"[0-9a-f]{32}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_MAX_PATH = 4096
_MAX_SIDE = 1 << 24
_TOLERANCE = 1.0
"""Pixels by which a box may exceed its image, because somebody rounded."""

Verdict = Literal["up", "down"]
"""``"up"``: the box is what the phrase means. ``"down"``: it is not."""


@dataclass(frozen=True)
class FeedbackEntry:
    """A thumb for a region.

    Parameters
    ----------
    id : str
        16 hexadecimal digits, by which it can be undone.
    time : str
        When it was given, in UTC: ``2026-11-26T11:50:00Z``.
    verdict : str
        ``"up"`` if the box is what the phrase means, ``"down"`` if not.
    phrase : str
        As :func:`.phrases.clean_phrase` returns it; at most 1,000 characters.
    image : str
        Path of the image at that time, for people.
    content_hash : str
        Which image it is: 32 hexadecimal digits.
    box : tuple of 4 float
        Corners ``x1, y1, x2, y2`` in pixels of the upright image, clipped to it.
    image_size : tuple of 2 int
        Its width and height in pixels.

    Raises
    ------
    FeedbackError
        If a value is none of these.

    Examples
    --------
    >>> entry = FeedbackEntry(
    ...     "0123456789abcdef", "2026-11-26T11:50:00Z", "up", "a dog", "a.jpg", "0" * 32,
    ...     (10.0, 20.0, 70.0, 90.0), (640, 480),
    ... )
    >>> FeedbackEntry.from_dict(entry.as_dict()) == entry
    True
    """

    id: str
    time: str
    verdict: Verdict
    phrase: str
    image: str
    content_hash: str
    box: tuple[float, float, float, float]
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        for name, value, pattern in (
            ("id", self.id, _ID),
            ("time", self.time, _TIME),
            ("content hash", self.content_hash, _HASH),
        ):
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise FeedbackError(f"{value!r:.80} is not the {name} of feedback")
        if self.verdict not in ("up", "down"):
            raise FeedbackError(f"a thumb is 'up' or 'down', not {self.verdict!r:.80}")
        try:
            clean = clean_phrase(self.phrase) == self.phrase
        except PhraseError as error:
            raise FeedbackError(str(error)) from error
        if not clean or len(self.phrase) > MAX_FEEDBACK_PHRASE:
            raise FeedbackError(
                f"the phrase {self.phrase!r:.80} has control characters, or more than "
                f"{MAX_FEEDBACK_PHRASE:,} characters"
            )
        if not isinstance(self.image, str) or len(self.image) > _MAX_PATH:
            raise FeedbackError("the path of the image is not a text of up to 4,096 characters")
        object.__setattr__(self, "image_size", _checked_size(self.image_size))
        object.__setattr__(self, "box", _clipped(self.box, self.image_size))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON: the keys of the expression format, and four more."""
        width, height = self.image_size
        return {
            "id": self.id,
            "time": self.time,
            "source": "feedback",
            "verdict": self.verdict,
            "image": self.image,
            "content_hash": self.content_hash,
            "expression": self.phrase,
            "bbox_xyxy": list(self.box),
            "width": width,
            "height": height,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> FeedbackEntry:
        """Return the entry of :meth:`as_dict`; other keys are ignored.

        Raises
        ------
        FeedbackError
            If a value is missing or impossible.
        """
        try:
            box, size = tuple(value["bbox_xyxy"]), (value["width"], value["height"])
            if value["source"] != "feedback":
                raise FeedbackError(f"its source is {value['source']!r:.80}")
            return cls(
                value["id"],
                value["time"],
                value["verdict"],
                value["expression"],
                value["image"],
                value["content_hash"],
                box,
                size,
            )
        except KeyError as error:
            raise FeedbackError(f"it has no {error.args[0]!r}") from error
        except TypeError as error:
            raise FeedbackError("its box is not a list") from error


def _checked_size(size: Any) -> tuple[int, int]:
    if (
        not isinstance(size, (tuple, list))
        or len(size) != 2
        or not all(type(side) is int and 0 < side <= _MAX_SIDE for side in size)
    ):
        raise FeedbackError(f"the size of the image is {size!r:.80}, not two numbers of pixels")
    return size[0], size[1]


def _is_coordinate(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= _MAX_SIDE
    return type(value) is float and math.isfinite(value)


def _clipped(box: Any, size: tuple[int, int]) -> tuple[float, float, float, float]:
    if (
        not isinstance(box, (tuple, list))
        or len(box) != 4
        or not all(_is_coordinate(number) for number in box)
    ):
        raise FeedbackError(f"a box is four numbers x1, y1, x2, y2, not {box!r:.80}")
    width, height = size
    x1, y1, x2, y2 = (float(number) for number in box)
    outside = max(-x1, -y1, x2 - width, y2 - height)
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if outside > _TOLERANCE or x2 - x1 < 1 or y2 - y1 < 1:
        raise FeedbackError(
            f"the box {x1:g},{y1:g},{x2:g},{y2:g} is not inside the image, which has "
            f"{width} × {height} pixels"
        )
    return x1, y1, x2, y2
