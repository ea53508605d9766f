"""Mirrored phrases: left for right and right for left, where the words are understood."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["mirror_phrase"]


_OPPOSITE = {
    "left": "right", "right": "left", "Left": "Right", "Right": "Left",
    "LEFT": "RIGHT", "RIGHT": "LEFT", "lft": "rt", "rt": "lft", "lhs": "rhs", "rhs": "lhs",
}  # fmt: skip
_WORD = re.compile(r"\w+")
_SIDE = re.compile(
    r"(?P<place>(?i:bottom|top|upper|lower|far|front|back|rear|middle|mid|center|centre)?)"
    rf"(?P<side>{'|'.join(_OPPOSITE)})"
    r"(?P<end>(?i:most|hand|side|ward|wards)?)"
)
_OTHER_WORD = re.compile(r".*(bright|upright|fright|copyright|leftover).*")
_UNCLEAR = frozenset(
    "l r lh rh lt rht rgt rght rigth righ lef lefft letf east west eastern western eastmost "
    "westmost clockwise counterclockwise anticlockwise oclock links linke rechts rechte gauche "
    "droite izquierda izquierdo derecha derecho sinistra destra esquerda direita".split()
)

# "just left", "right behind": as a verb or an adverb, the word names no side.
_BEFORE_VERB = frozenset("just has have had having is are was were been being gets got all".split())
_AFTER_ADVERB = frozenset(
    "behind beside besides next near above below under beneath underneath in inside into at on "
    "onto by between before after against over across along around away there here now where when "
    "off out outside up down through toward towards among alone open unattended for".split()
)
_BEFORE_SIDE = frozenset(
    "the on to from at far very your my his her their its our top bottom upper lower front back "
    "rear middle center centre".split()
)


def mirror_phrase(phrase: str) -> str | None:
    """Swap left and right, as for a mirrored image, or return None if that might be wrong.

    Mirroring twice restores the phrase. Abbreviations that are not certain, words such as "west",
    "just left", "right behind", and scripts other than Latin are not understood.

    Examples
    --------
    >>> mirror_phrase("second guy from left in a bright shirt, Right of the leftmost car")
    'second guy from right in a bright shirt, Left of the rightmost car'
    >>> mirror_phrase("bottomleft lady")
    'bottomright lady'
    >>> mirror_phrase("the man right behind her") is None
    True
    """
    if any(c.isalpha() and not unicodedata.name(c, "").startswith("LATIN") for c in phrase):
        return None
    words = list(_WORD.finditer(phrase))
    around = ["", *(word[0].casefold() for word in words), ""]
    parts, end = [], 0
    for number, word in enumerate(words, start=1):
        side = _SIDE.fullmatch(word[0])
        if side is None:
            if not _is_clear(around[number]):
                return None
            continue
        if not (
            side["place"] or side["end"] or _names_side(around[number - 1], around[number + 1])
        ):
            return None
        swapped = side["place"] + _OPPOSITE[side["side"]] + side["end"]
        parts += [phrase[end : word.start()], swapped]
        end = word.end()
    return "".join([*parts, phrase[end:]])


def _names_side(before: str, after: str) -> bool:
    """Return whether "left" or "right" between two words is a side."""
    if after == "of" or before in _BEFORE_SIDE:
        return True
    return before not in _BEFORE_VERB and after not in _AFTER_ADVERB


def _is_clear(word: str) -> bool:
    """Return whether a word certainly names neither side."""
    if "left" in word or "right" in word or "lft" in word:
        return bool(_OTHER_WORD.fullmatch(word))
    return word not in _UNCLEAR
