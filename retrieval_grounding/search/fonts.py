"""Fonts that have the characters of a text."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

__all__ = ["font_for", "missing_characters"]


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_TEST_SIZE = 16
_NO_CHARACTER = "\uffff"  # every font draws it as it draws what it lacks
_INVISIBLE = frozenset(("Cc", "Cf", "Mn", "Me", "Zs", "Zl", "Zp"))


def font_for(text: str, size: int) -> Font:
    """Return the font that has most characters of a text: Pillow's own if it has all of them.

    Otherwise, matplotlib's and all installed fonts are tried.
    """
    path = _best_font(_visible(text))
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)


def missing_characters(text: str) -> str:
    """Return the characters of a text that its font lacks, each once."""
    return "".join(sorted(_lacking(font_for(text, _TEST_SIZE), _visible(text))))


def _visible(text: str) -> frozenset[str]:
    return frozenset(
        character for character in text if unicodedata.category(character) not in _INVISIBLE
    )


@lru_cache(maxsize=256)
def _best_font(characters: frozenset[str]) -> str | None:
    """Return the file of the font that lacks fewest characters; None for Pillow's own."""
    best, fewest = None, len(_lacking(ImageFont.load_default(_TEST_SIZE), characters))
    for path in _font_files() if fewest else ():
        try:
            lacking = len(_lacking(ImageFont.truetype(path, _TEST_SIZE), characters))
        except (OSError, ValueError):  # not a font that FreeType can scale
            continue
        if lacking < fewest:
            best, fewest = path, lacking
        if not fewest:
            break
    return best


def _lacking(font: Font, characters: frozenset[str]) -> set[str]:
    nothing = _drawn(font, _NO_CHARACTER)
    return {character for character in characters if _drawn(font, character) == nothing}


def _drawn(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@lru_cache(maxsize=1)
def _font_files() -> tuple[str, ...]:
    """Return the files of all fonts, those for plain text in many scripts first."""
    import matplotlib
    from matplotlib import font_manager  # takes time, and few texts need it

    own = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    return (own, *sorted(font_manager.findSystemFonts(), key=_rank))


def _rank(path: str) -> tuple[bool, bool, str]:
    name = Path(path).stem.lower()
    styled = any(word in name for word in ("bold", "italic", "oblique", "mono", "serif", "thin"))
    return styled, "regular" not in name, path
