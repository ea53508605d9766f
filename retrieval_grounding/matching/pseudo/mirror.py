"""Mirrored phrases: left for right and right for left."""

from __future__ import annotations

import re

__all__ = ["mirror_phrase"]


_OPPOSITE = {
    "left": "right", "right": "left", "Left": "Right", "Right": "Left",
    "LEFT": "RIGHT", "RIGHT": "LEFT",
}  # fmt: skip
_SIDE_WORD = re.compile(
    r"\b(left|right|Left|Right|LEFT|RIGHT)(?=\b|(?i:most|hand|side|ward|wards)\b)"
)


def mirror_phrase(phrase: str) -> str:
    """Swap left and right, as for a mirrored image; mirroring twice restores the phrase.

    Examples
    --------
    >>> mirror_phrase("second guy from left in a bright shirt, Right of the leftmost car")
    'second guy from right in a bright shirt, Left of the rightmost car'
    """
    return _SIDE_WORD.sub(lambda match: _OPPOSITE[match[1]], phrase)
