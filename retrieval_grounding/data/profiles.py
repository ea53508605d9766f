"""ICC profiles: from the colors that a file means to sRGB."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from PIL import ImageCms

__all__ = ["srgb_conversion"]


Conversion = Callable[[Image.Image], Image.Image]

_MAX_PROFILE_BYTES = 1 << 24
_SPACES = {"RGB": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}
_SAME = 3  # levels; sRGB profiles of different makers differ by 2


def srgb_conversion(profile: object, mode: str) -> Conversion | None:
    """Return a function that converts pictures of `mode` (RGB, L or CMYK) to sRGB in mode RGB.

    None if there is nothing to convert: without a profile, with one of sRGB, and with one that is
    damaged, belongs to different channels or does not keep white light and black dark. Viewers
    ignore those, too.
    """
    if not isinstance(profile, bytes) or not 128 <= len(profile) <= _MAX_PROFILE_BYTES:
        return None
    if profile[16:20] != _SPACES.get(mode):
        return None
    return _conversion(profile, mode)


@lru_cache(maxsize=32)
def _conversion(profile: bytes, mode: str) -> Conversion | None:
    from PIL import ImageCms  # most images do not need it

    try:
        transform = ImageCms.buildTransform(
            io.BytesIO(profile), _srgb(), mode, "RGB", ImageCms.Intent.PERCEPTUAL
        )
        sample = _sample(mode)
        converted = transform.apply(sample)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    dark, light = (sum(_ends(converted)[end]) for end in (0, 1))
    if light - dark < 3 * 100:
        return None
    if mode != "CMYK" and _differ_at_most(converted, sample.convert("RGB"), _SAME):
        return None
    return transform.apply


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@lru_cache(maxsize=3)
def _sample(mode: str) -> Image.Image:
    """Return colors of the whole space; the first pixel is black and the last one white."""
    steps = range(0, 256, 51 if mode == "CMYK" else 17)
    if mode == "L":
        values = bytes(range(256))
    elif mode == "RGB":
        values = bytes(v for r in steps for g in steps for b in steps for v in (r, g, b))
    else:
        inks = range(255, -1, -51)
        values = bytes(
            v for k in inks for y in inks for m in inks for c in inks for v in (c, m, y, k)
        )
    return Image.frombytes(mode, (len(values) // len(mode), 1), values)


def _ends(image: Image.Image) -> list[tuple[int, ...]]:
    pixels = [image.getpixel((x, 0)) for x in (0, image.width - 1)]
    return [pixel for pixel in pixels if isinstance(pixel, tuple)]


def _differ_at_most(image: Image.Image, other: Image.Image, levels: int) -> bool:
    from PIL import ImageChops

    difference = ImageChops.difference(image, other).getextrema()
    return all(isinstance(band, tuple) and band[1] <= levels for band in difference)
