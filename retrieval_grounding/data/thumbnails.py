"""Small copies of images, which an index keeps on request."""

from __future__ import annotations

import io

from PIL import Image

__all__ = ["THUMBNAIL_SIDE", "make_thumbnail"]


THUMBNAIL_SIDE = 640
"""The longest side in pixels, as on a page of hits."""

_QUALITY = 85


def make_thumbnail(image: Image.Image) -> bytes:
    """Return a JPEG of an upright RGB image, with at most 640 pixels on the longest side.

    Examples
    --------
    >>> data = make_thumbnail(Image.new("RGB", (1280, 320), "red"))
    >>> Image.open(io.BytesIO(data)).size
    (640, 160)
    """
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
