"""Drawing boxes and hits on an image."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..core.errors import GroundingError
from ..core.hits import Hit
from ..core.output_file import write_output
from ..core.types import PathLike
from ..data.images import load_image

__all__ = ["draw_boxes", "draw_hits", "save_picture"]

# White text is readable on all of them. A single hit gets the first, red.
_COLORS = (
    (230, 30, 90), (0, 105, 215), (0, 130, 60), (200, 85, 0), (130, 60, 200), (0, 125, 140),
    (140, 90, 30), (90, 90, 90),
)  # fmt: skip


def draw_boxes(
    image: Image.Image, boxes: Sequence[tuple[Sequence[float], tuple[int, int, int]]]
) -> Image.Image:
    """Return a copy of an upright RGB image with boxes drawn on it.

    Parameters
    ----------
    image : PIL.Image.Image
        Upright, RGB.
    boxes : sequence of (box, color)
        Corners ``x1, y1, x2, y2`` in pixels, and an RGB color. Later boxes are drawn on top.
    """
    canvas = image.copy()
    draw = ImageDraw.Draw(canvas)
    for box, color in boxes:
        draw.rectangle(tuple(box), outline=color, width=_line_width(image))
    return canvas


def draw_hits(image: Image.Image, hits: Sequence[Hit]) -> Image.Image:
    """Return a copy of an upright RGB image with the box, phrase and score of each hit.

    Each hit has its own color. The box of the first hit is on top; captions do not overlap.
    """
    colored = list(zip(hits, itertools.cycle(_COLORS), strict=False))
    canvas = draw_boxes(image, [(hit.box, color) for hit, color in reversed(colored)])
    draw = ImageDraw.Draw(canvas)
    line = _line_width(image)
    font = ImageFont.load_default(size=max(12, round(max(image.size) / 45)))
    taken: list[tuple[float, float, float, float]] = []
    for hit, color in colored:
        text = f"{hit.phrase[:60]}  {hit.certainty}"
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


def save_picture(image: PathLike, hits: Sequence[Hit], path: PathLike) -> None:
    """Write a copy of an image with the boxes of its hits drawn on it.

    Parameters
    ----------
    image : path
        The image. If the hits come from an index, it must still be the file that was indexed.
    hits : sequence of Hit
        What to draw; may be empty.
    path : path
        The file to write, or a device. Its suffix determines the format, PNG without one.

    Raises
    ------
    ImageError
        If the image cannot be used.
    GroundingError
        If the format is unknown or the file cannot be written.
    """
    suffix = Path(path).suffix.lower() or ".png"  # a device, for example, has none
    known = next((hit.content_hash for hit in hits if hit.content_hash), None)
    drawn = draw_hits(load_image(image, known), hits)
    picture = io.BytesIO()
    try:
        drawn.save(picture, format=Image.registered_extensions()[suffix])
    except KeyError as error:
        raise GroundingError(
            f"cannot write {path}: use a name that ends in .png or .jpg"
        ) from error
    except OSError as error:
        raise GroundingError(f"cannot write {path}: {error.strerror or error}") from error
    write_output(path, picture.getvalue())


def _line_width(image: Image.Image) -> int:
    return max(2, round(max(image.size) / 250))
