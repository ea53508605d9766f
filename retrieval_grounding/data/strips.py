"""Large images in strips, because conversions need several copies of what they convert."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

__all__ = ["STRIP_PIXELS", "strips"]


STRIP_PIXELS = 1 << 20
"""Pixels of a strip, at most, unless a single row has more."""


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield the first row and a copy of each strip of an image, or the image itself if small."""
    width, height = image.size
    if width * height <= STRIP_PIXELS:
        yield 0, image
        return
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))
