"""Drawing boxes and hits on an image."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ..core.errors import GroundingError
from ..core.hits import Hit
from ..core.output_file import write_output
from ..core.types import PathLike
from ..data.image_source import ImageSource
from ..data.images import load_image
from .fonts import font_for, missing_characters

__all__ = ["COLORS", "draw_boxes", "draw_hits", "save_picture"]

COLORS = (
    (230, 30, 90), (0, 105, 215), (0, 130, 60), (200, 85, 0), (130, 60, 200), (0, 125, 140),
    (140, 90, 30), (90, 90, 90),
)  # fmt: skip
"""RGB colors of hits, on which white text is readable. A single hit gets the first, red."""

_LARGEST_SIDES = {
    "JPEG": 65_500, "MPO": 65_500, "GIF": 65_535, "WEBP": 16_383, "AVIF": 32_768, "ICO": 256,
    "TGA": 65_535, "SGI": 65_535, "PDF": 65_500,
}  # fmt: skip


def draw_boxes(
    image: Image.Image,
    boxes: Sequence[tuple[Sequence[float], tuple[int, int, int]]],
    line: int | None = None,
) -> Image.Image:
    """Return a copy of an upright RGB image with boxes drawn on it.

    Parameters
    ----------
    image : PIL.Image.Image
        Upright, RGB.
    boxes : sequence of (box, color)
        Corners ``x1, y1, x2, y2`` in pixels, and an RGB color. Later boxes are drawn on top.
    line : int, optional
        Width of the lines in pixels; follows from the size of the image if left out.
    """
    canvas = image.copy()
    draw = ImageDraw.Draw(canvas)
    for box, color in boxes:
        draw.rectangle(tuple(box), outline=color, width=line or _line_width(image))
    return canvas


def draw_hits(image: Image.Image, hits: Sequence[Hit]) -> Image.Image:
    """Return a copy of an upright RGB image with the box, phrase and score of each hit.

    Each hit has its own color. The box of the first hit is on top; captions do not overlap.
    """
    colored = list(zip(hits, itertools.cycle(COLORS), strict=False))
    canvas = draw_boxes(image, [(hit.box, color) for hit, color in reversed(colored)])
    draw = ImageDraw.Draw(canvas)
    line = _line_width(image)
    size = max(12, round(max(image.size) / 45))
    taken: list[tuple[float, float, float, float]] = []
    for hit, color in colored:
        text = f"{hit.phrase[:60]}  {hit.certainty}"
        font = font_for(text, size)
        x1, y1 = hit.box[:2]
        left, _, right, bottom = draw.textbbox((0, 0), text, font=font)
        width, height = right - left + 2 * line, bottom + 2 * line
        x = min(max(0, x1), max(0, image.width - right - 2 * line))
        y = y1 - height if y1 > height else y1
        while any(
            x < other[2] and other[0] < x + width and y < other[3] and other[1] < y + height
            for other in taken
        ):
            y += height
        taken.append((x, y, x + width, y + height))
        draw.rectangle(taken[-1], fill=color)
        draw.text((x + line, y + line // 2), text, fill="white", font=font)
    return canvas


def save_picture(image: ImageSource, hits: Sequence[Hit], path: PathLike) -> list[str]:
    """Write a copy of an image with the boxes of its hits drawn on it.

    Parameters
    ----------
    image : path, URL, bytes, file, PIL image or array
        The image, as for :func:`load_image`. If the hits come from an index, it must still be the
        file that was indexed.
    hits : sequence of Hit
        What to draw; may be empty.
    path : path
        The file to write, or a device. Its suffix determines the format, PNG without one.

    Returns
    -------
    list of str
        What to know about the picture: characters that no installed font has.

    Raises
    ------
    ImageError
        If the image cannot be used.
    GroundingError
        If `path` is the image itself, the format is unknown or cannot hold a picture of this size,
        or the file cannot be written.
    """
    target, suffix = Path(path), Path(path).suffix.lower() or ".png"  # a device, say, has none
    if _is_same_file(image, target):
        raise GroundingError(
            f"{target} is the image itself, which would be replaced; choose a different name"
        )
    kind = Image.registered_extensions().get(suffix)
    if kind not in Image.SAVE:
        raise GroundingError(f"cannot write {target}: use a name that ends in .png or .jpg")
    known = next((hit.content_hash for hit in hits if hit.content_hash), None)
    drawn = draw_hits(load_image(image, known), hits)
    limit = _LARGEST_SIDES.get(kind)
    if limit is not None and max(drawn.size) > limit:
        raise GroundingError(
            f"cannot write {target}: {kind} holds at most {limit:,} pixels per side, and the image "
            f"has {drawn.width:,} × {drawn.height:,}; use a name that ends in .png"
        )
    picture = io.BytesIO()
    try:
        drawn.save(picture, format=kind)
    except Exception as error:  # Pillow's plugins raise almost any error
        raise GroundingError(
            f"cannot write {target}: {error}; use a name that ends in .png"
        ) from error
    write_output(path, picture.getvalue())
    missing = missing_characters("".join(hit.phrase[:60] for hit in hits))
    return [f"no installed font has {missing}; it is drawn as boxes"] if missing else []


def _is_same_file(image: ImageSource, target: Path) -> bool:
    if not isinstance(image, (str, os.PathLike)):
        return False
    try:
        return target.samefile(image)
    except OSError:  # one of them does not exist
        return False


def _line_width(image: Image.Image) -> int:
    return max(2, round(max(image.size) / 250))
