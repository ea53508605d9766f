"""Loading the pixels of an opened image, and finding what its decoder filled in."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image, ImageChops, ImageFile

from .jpeg import JpegData, gray_tail, has_gray_corner, left_over

__all__ = ["ImageNote", "load_pixels"]


class ImageNote(NamedTuple):
    """Something to know about an image that is usable nevertheless."""

    reason: str
    detail: str


_Value = int | tuple[int, ...]
_MARKS: dict[str, tuple[_Value, _Value]] = {
    "RGB": ((1, 254, 3), (253, 2, 251)), "RGBA": ((1, 254, 3, 2), (253, 2, 251, 9)),
    "L": (1, 254), "P": (1, 254), "LA": ((1, 254), (254, 3)), "I;16": (257, 65001),
}  # fmt: skip
"""For each mode, two values that the last pixel has before it is decoded."""


_CHUNK = 1 << 20


def load_pixels(
    image: ImageFile.ImageFile, file: io.BytesIO, jpeg: JpegData | None
) -> list[ImageNote]:
    """Decode the pixels of an image that has been opened from `file`.

    Returns
    -------
    list of ImageNote
        With the reasons ``truncated`` and ``damaged``, and how much is concerned.
    """
    if jpeg is not None:
        return list(_load_jpeg(image, file, jpeg))
    if image.format == "PNG":
        return _load_png(image, file.getvalue())
    image.load()  # decoders of other formats refuse what is incomplete
    return []


def _load_jpeg(image: ImageFile.ImageFile, file: io.BytesIO, jpeg: JpegData) -> Iterator[ImageNote]:
    tail = jpeg.tail

    def read(count: int) -> bytes:
        position = file.tell()
        return file.read(min(_CHUNK, tail - position) if position < tail else count)

    image.load_read = read  # type: ignore[attr-defined]
    image.load()
    finished_early = file.tell() <= tail
    if (missing := jpeg.missing_intervals()) > 0:
        yield _damaged("{} of the picture is missing or wrong", missing)
    elif jpeg.plain and has_gray_corner(image) and (missing := gray_tail(jpeg)) > 0:
        yield _truncated("the lower {} of the picture is missing", missing)
    elif jpeg.plain and finished_early and (unused := left_over(jpeg)) > 0:
        yield _damaged("{} of its data do not fit, so parts of the picture are wrong", unused)
    elif (missing := jpeg.missing_coefficients()) > 0:
        yield _truncated("{} of its details are missing", missing)
    elif (blank := jpeg.holes()) > 0:
        yield _damaged("{} of its data is blank, so parts of the picture are wrong", blank)
    elif jpeg.progressive and jpeg.stray is not None:
        yield _damaged("up to {} of its data is wrong", 1 - jpeg.stray / len(jpeg.data))


def _load_png(image: ImageFile.ImageFile, data: bytes) -> list[ImageNote]:
    if image.mode not in _MARKS:
        image.load()
        return []
    first, second = _MARKS[image.mode]
    if _reaches_the_end(image, first):
        return []
    with Image.open(io.BytesIO(data), formats=("PNG",)) as again:  # the pixel may have that value
        if _reaches_the_end(again, second):
            return []
    corner = image.width - 1, image.height - 1
    image.putpixel(corner, 0 if isinstance(first, int) else (0,) * len(first))
    return [_truncated("the lower {} of the picture is missing", _flat_tail(image))]


def _reaches_the_end(image: ImageFile.ImageFile, mark: _Value) -> bool:
    """Decode an image and return whether its last pixel is no longer `mark`."""
    corner = image.width - 1, image.height - 1
    ImageFile.ImageFile.load_prepare(image)
    image.im.putpixel(corner, mark)
    image.load()
    return image.getpixel(corner) != mark


def _flat_tail(image: Image.Image) -> float:
    """Return the share of rows, from below, that have one color, in about 1 % steps."""
    small = image.resize((min(64, image.width), min(256, image.height)), Image.Resampling.NEAREST)
    colors = small.convert("RGBA")
    last = colors.getpixel((small.width - 1, small.height - 1))
    plain = Image.new("RGBA", small.size, last)
    different = ImageChops.difference(colors, plain).getbbox(alpha_only=False)
    return 1 - different[3] / small.height if different else 1.0


def _truncated(text: str, share: float) -> ImageNote:
    return ImageNote("truncated", text.format(_percent(share)))


def _damaged(text: str, share: float) -> ImageNote:
    return ImageNote("damaged", text.format(_percent(share)))


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.01 else "less than 1 %"
