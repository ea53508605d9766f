"""Gray values of more than 8 bits, whose range is not always known."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops, ImageFile

from .strips import strips

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["gray_scaling", "is_deep", "scale_transparency", "stored_mode", "with_real_range"]


Scaling = Callable[["npt.NDArray[Any]"], "npt.NDArray[Any]"]

_PHOTOMETRIC, _MAX_SAMPLE, _S_MIN, _S_MAX = 262, 281, 340, 341  # tags of TIFF
_WHITE_IS_ZERO = 0


def is_deep(image: Image.Image) -> bool:
    """Return whether an image has one channel of 16 or 32 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def gray_scaling(image: Image.Image) -> tuple[Callable[[Image.Image], Image.Image], str | None]:
    """Return a function that converts strips of a deep image to mode L, and what it guesses.

    16-bit values are divided by 256 as viewers do, unless they would be nearly black: then the
    image has values of 8, 10 or 12 bits (in TIFF also 14), as sensors deliver them. Signed and
    32-bit integers and floats have no agreed range; what a TIFF says of it is used.
    """
    import numpy as np  # most images do not need it, and decoding processes start faster

    scale, guess = _scaling(image)
    inverted = _tags(image).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    transparent = image.info.get("transparency")

    def convert(strip: Image.Image) -> Image.Image:
        values = np.asarray(strip)
        gray = scale(values).clip(0, 255).astype(np.uint8)
        if inverted:
            gray = 255 - gray
        if isinstance(transparent, int):
            gray[values == transparent] = 255
        return Image.fromarray(gray)

    return convert, guess


def _scaling(image: Image.Image) -> tuple[Scaling, str | None]:
    low, high = _extremes(image)
    stated = _stated_range(image)
    if stated is not None and stated[0] <= low and high <= stated[1]:
        return _linear(*stated), None
    if image.mode == "F":
        for limit in (1, 255):
            if low >= 0 and high <= limit:
                return _linear(0, limit), f"its values are assumed to be between 0 and {limit}"
        return _linear(low, high), f"its values are from {low:g} to {high:g}, shown black to white"
    known = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
    if high == low == 0:
        return _linear(0, 1), None
    tiff = image.format == "TIFF"
    for bits in (8, 10, 12, 14, 16) if tiff or not known else (8, 10, 12, 16):
        if low >= 0 and high < 1 << bits:
            sure = known and bits == 16
            detail = f"its values reach {high:,.0f}, so {bits} bits are assumed"
            return _shifted(bits - 8), None if sure else detail
    return _linear(low, high), f"its values are from {low:,.0f} to {high:,.0f}, black to white"


def _shifted(bits: int) -> Scaling:
    return lambda values: values >> bits


def _linear(low: float, high: float) -> Scaling:
    import numpy as np

    factor = 255.0 / (high - low) if high > low else 0.0

    def scale(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        finite = np.where(np.isfinite(values), values, low).astype(np.float64)
        scaled: npt.NDArray[Any] = np.rint((finite - low) * factor)
        return scaled

    return scale


def _extremes(image: Image.Image) -> tuple[float, float]:
    """Return the smallest and the largest finite value; 0 and 0 if there is none."""
    found = [extreme for strip in strips(image) for extreme in _strip_extremes(strip[1])]
    return (min(found), max(found)) if found else (0.0, 0.0)


def _strip_extremes(strip: Image.Image) -> Iterator[float]:
    import numpy as np

    values = np.asarray(strip)
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if values.size:
        yield float(values.min())
        yield float(values.max())


def _tags(image: Image.Image) -> Any:
    return getattr(image, "tag_v2", {})


def _stated_range(image: Image.Image) -> tuple[float, float] | None:
    """Return the range that the tags of a TIFF state."""
    tags = _tags(image)
    low, high = tags.get(_S_MIN, 0), tags.get(_S_MAX, tags.get(_MAX_SAMPLE))
    low, high = (value[0] if isinstance(value, tuple) else value for value in (low, high))
    try:
        return (float(low), float(high)) if float(low) < float(high) else None
    except (TypeError, ValueError):
        return None


_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def stored_mode(image: ImageFile.ImageFile) -> str:
    """Return Pillow's name for how an opened image stores its pixels; empty if it has none."""
    arguments = image.tile[0][3] if image.tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def scale_transparency(image: ImageFile.ImageFile, stored: str) -> None:
    """Scale the transparent color of a PNG as its pixels will be scaled; Pillow does not."""
    color = image.info.get("transparency")
    if isinstance(color, tuple) and stored == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in color)
    elif isinstance(color, int) and stored in ("L;2", "L;4"):
        image.info["transparency"] = color * (85 if stored == "L;2" else 17)


def with_real_range(
    image: ImageFile.ImageFile, stored: str, reopen: Callable[[], ImageFile.ImageFile]
) -> tuple[Image.Image, str | None]:
    """Return a decoded image with the real range of 16-bit colors, and what was guessed.

    Pillow keeps the high bytes of such colors, so an image with values of 12 bits is nearly black.
    For that, it is decoded again with the low bytes.
    """
    channels, _, order = stored.partition(";16")
    if channels not in ("RGB", "RGBX", "RGBA") or order not in _SWAPPED:
        return image, None
    extremes = [extreme for extreme in image.getextrema()[:3] if isinstance(extreme, tuple)]
    high = max(extreme[1] for extreme in extremes)
    bits = next((bits for bits in (10, 12) if 0 < high < 1 << bits - 8), None)
    if bits is None:
        return image, None
    with reopen() as other:
        swapped = f"{channels};16{_SWAPPED[order]}"
        other.tile = [
            tile._replace(
                args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped
            )
            for tile in other.tile
        ]
        other.load()
        factor = 255 / ((1 << bits) - 1)
        bands = len(image.getbands())
        coarse = [min(255, round(256 * value * factor)) for value in range(256)]
        fine = [round(value * factor) for value in range(256)]
        full = ImageChops.add(image.point(coarse * bands), other.point(fine * bands))
    return full, f"its values are below {(high + 1) << 8:,}, so {bits} bits are assumed"
