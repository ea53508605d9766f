"""How much memory it takes to decode an image, known from its header."""

from __future__ import annotations

from typing import Any

from PIL import ImageFile

from .jpeg import JpegData
from .strips import STRIP_PIXELS

__all__ = ["RGB_BYTES", "decoding_bytes"]


RGB_BYTES = 4
"""What Pillow keeps of a pixel in mode RGB, and in every other mode of several channels."""

# Bytes per pixel at the peak, measured and rounded up; tests/test_memory_budget.py compares.
_CODEC_BYTES = {"WEBP": 19.0, "AVIF": 16.0, "HEIF": 16.0}
_JPEG2000_BYTES_PER_CHANNEL = 5.0
_LATE_EXIF = ("PNG", "TIFF")  # may store it after the pixels, or in tags

_BITS, _CHANNELS, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 258, 277, 278, 322, 323  # TIFF


def decoding_bytes(image: ImageFile.ImageFile, data: bytes, jpeg: JpegData | None) -> int:
    """Return the memory in bytes that it takes to decode and convert an opened image.

    Parameters
    ----------
    image : PIL image file
        Opened, not loaded.
    data : bytes
        The file.
    jpeg : JpegData or None
        Its structure if it is a JPEG.
    """
    pixels = image.width * image.height
    stored = _stored_bytes(image.mode)
    decoding = stored
    if jpeg is not None:
        decoding += jpeg.buffered_bytes_per_pixel
    elif image.format == "JPEG2000":
        decoding = _JPEG2000_BYTES_PER_CHANNEL * (len(image.getbands()) + 1)
    elif image.format == "TIFF":
        decoding += _tiff_buffer(image)
    else:
        decoding = max(decoding, _CODEC_BYTES.get(image.format or "", 0.0))
    strip = _strip_bytes(image) * min(pixels, STRIP_PIXELS)
    may_turn = "exif" in image.info or image.format in _LATE_EXIF
    copies = 1 if strip or may_turn else 0
    if ";16" in str(image.tile[:1]) and stored == RGB_BYTES:  # colors that may be decoded twice
        copies = 3
    return round(max(decoding, stored + RGB_BYTES * copies) * pixels + strip + len(data))


def _strip_bytes(image: ImageFile.ImageFile) -> float:
    """Return the bytes per pixel of a strip that converting takes; 0 if nothing is converted."""
    if image.mode == "F" or image.mode.startswith("I"):
        return 40.0
    if image.has_transparency_data:
        return 25.0
    return 0.0 if image.mode == "RGB" and "icc_profile" not in image.info else 13.0


def _stored_bytes(mode: str) -> float:
    if mode in ("1", "L", "P"):
        return 1.0
    return 2.0 if mode.startswith("I;16") else float(RGB_BYTES)


def _tiff_buffer(image: ImageFile.ImageFile) -> float:
    """Return the bytes per pixel of the whole image that a strip or a row of tiles takes."""
    tags: Any = getattr(image, "tag_v2", {})
    rows = tags.get(_TILE_LENGTH) or tags.get(_ROWS_PER_STRIP) or image.height
    bits = tags.get(_BITS, (8,))
    channels = tags.get(_CHANNELS, 1)
    share = min(1.0, rows / image.height) if isinstance(rows, int) else 1.0
    size = max(bits) * channels / 8 if isinstance(bits, tuple) and isinstance(channels, int) else 4
    return share * max(RGB_BYTES, size)
