"""From the pixels that a file stores to those that a viewer shows: upright, 8-bit, sRGB."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from .depth import gray_scaling, is_deep
from .profiles import srgb_conversion
from .strips import strips

__all__ = ["to_rgb", "turn"]


Conversion = Callable[[Image.Image], Image.Image]

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn(image: Image.Image) -> Image.Transpose | None:
    """Return how to turn an image upright, from its EXIF; None if it is, or if that is damaged."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # damaged EXIF; viewers then show the image as stored
        return None
    return _UPRIGHT.get(orientation) if isinstance(orientation, int) else None


def to_rgb(image: Image.Image) -> tuple[Image.Image, str | None]:
    """Return a decoded image in sRGB, blended with white, and what was guessed about its range.

    The result is the image itself if there is nothing to convert.
    """
    convert, guess = _conversion(image)
    if convert is None:
        return (image.copy() if image.readonly else image), guess
    parts = strips(image)
    _, first = next(parts)
    if first is image:
        return convert(image), guess
    canvas = Image.new("RGB", image.size, None)
    canvas.paste(convert(first), (0, 0))
    for top, strip in parts:
        canvas.paste(convert(strip), (0, top))
    return canvas, guess


def _conversion(image: Image.Image) -> tuple[Conversion | None, str | None]:
    """Return how to convert a strip of an image, and what is guessed about the values."""
    profile = image.info.get("icc_profile")
    if is_deep(image):
        to_gray, guess = gray_scaling(image)
        color = srgb_conversion(profile, "L") or _as_rgb
        return (lambda strip: color(to_gray(strip))), guess
    if image.has_transparency_data:
        mode = "L" if image.mode.startswith("L") else "RGB"
        return _over_white(srgb_conversion(profile, mode), mode), None
    if image.mode in ("L", "CMYK"):
        return srgb_conversion(profile, image.mode) or _as_rgb, None
    convert = srgb_conversion(profile, "RGB")
    if image.mode == "RGB" or convert is None:
        return (convert if image.mode == "RGB" else _as_rgb), None
    return (lambda strip: convert(_as_rgb(strip))), None


def _as_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def _over_white(color: Conversion | None, mode: str) -> Conversion:
    """Return how to blend a strip with white, after converting its colors from `mode`."""

    def convert(strip: Image.Image) -> Image.Image:
        layer = strip.convert("RGBA")
        if color is not None:
            alpha = layer.getchannel("A")
            layer = color(layer.convert("RGB").convert(mode))
            layer.putalpha(alpha)
        canvas = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(canvas, layer).convert("RGB")

    return convert
