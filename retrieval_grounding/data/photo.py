"""What a photograph says about itself, and its perceptual hash."""

from __future__ import annotations

import re
from datetime import datetime

from PIL import Image

from ..core.photo import Photo

__all__ = ["described_by", "perceptual_hash", "read_exif"]


_EXIF, _GPS = 0x8769, 0x8825
_TAKEN = (0x9003, 0x9004)  # DateTimeOriginal, DateTimeDigitized
_CHANGED = 0x0132
_MAKE, _MODEL, _LATITUDE = 0x010F, 0x0110, 2
_DATE = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_MAX_CAMERA = 100
_BITS_PER_SIDE = 8


def read_exif(image: Image.Image) -> Photo:
    """Return what the EXIF of an opened image says; nothing if it is missing or damaged."""
    try:
        return described_by(image.getexif())
    except Exception:  # Pillow raises almost any error on damaged EXIF
        return Photo()


def described_by(exif: Image.Exif) -> Photo:
    """Return what EXIF says; nothing if it is damaged."""
    try:
        details, place = exif.get_ifd(_EXIF), exif.get_ifd(_GPS)
        dates = [_date(details.get(tag)) for tag in _TAKEN] + [_date(exif.get(_CHANGED))]
        make, model = _text(exif.get(_MAKE)), _text(exif.get(_MODEL))
        camera = model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()
        return Photo(next(filter(None, dates), ""), camera[:_MAX_CAMERA], _LATITUDE in place)
    except Exception:  # tags are decoded when they are read
        return Photo()


def perceptual_hash(image: Image.Image) -> str:
    """Return a hash that differs in few of its 64 bits between similar pictures.

    Each bit says whether the picture gets brighter from one cell of a grid to the next (dHash).

    Examples
    --------
    >>> perceptual_hash(Image.linear_gradient("L").rotate(90).convert("RGB"))
    'ffffffffffffffff'
    """
    side = _BITS_PER_SIDE
    small = image.resize((side + 1, side), Image.Resampling.BOX, reducing_gap=2.0).convert("L")
    cells = small.tobytes()
    bits = 0
    for row in range(side):
        for column in range(side):
            place = row * (side + 1) + column
            bits = bits << 1 | (cells[place] < cells[place + 1])
    return f"{bits:0{side * side // 4}x}"


def _date(value: object) -> str:
    match = _DATE.match(value) if isinstance(value, str) else None
    if match is None:
        return ""
    try:
        return datetime(*map(int, match.groups())).isoformat()  # type: ignore[arg-type]
    except ValueError:  # 0000:00:00 00:00:00, of cameras whose clock is not set
        return ""


def _text(value: object) -> str:
    text = value if isinstance(value, str) else ""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
