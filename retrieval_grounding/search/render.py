"""Drawing hits: on an image, and as one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import io
import itertools
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..core.errors import GroundingError, ImageError
from ..core.hits import Hit
from ..core.types import PathLike
from ..data.images import load_image
from ..storage.files import atomic_path, atomic_write_bytes

__all__ = [
    "draw_boxes",
    "draw_hits",
    "embed_image",
    "missing_image",
    "render_html",
    "save_picture",
    "write_html",
]


# White text can be read on all of them; the red is that of every single hit.
_COLORS = (
    (230, 30, 90), (0, 105, 215), (0, 130, 60), (200, 85, 0), (130, 60, 200), (0, 125, 140),
    (140, 90, 30), (90, 90, 90),
)  # fmt: skip
_NOTHING = "<p>Nothing was found.</p>"
_PAGE_IMAGE_SIDE = 640

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }
h2 { margin: 2rem 0 .5rem; font-weight: 600; }
.hits { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); }
figure { margin: 0; }
img { width: 100%; height: 15rem; object-fit: contain; background: #8881; border-radius: .4rem; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; }
b { font-variant-numeric: tabular-nums; }
.missing { height: 15rem; display: grid; place-content: center; background: #8882; }
"""


def draw_boxes(
    image: Image.Image, boxes: Sequence[tuple[Sequence[float], tuple[int, int, int]]]
) -> Image.Image:
    """Return a copy of an upright RGB image with boxes (corners and color) drawn in order."""
    canvas = image.copy()
    draw = ImageDraw.Draw(canvas)
    for box, color in boxes:
        draw.rectangle(tuple(box), outline=color, width=_line_width(image))
    return canvas


def draw_hits(image: Image.Image, hits: Sequence[Hit]) -> Image.Image:
    """Return a copy of an upright RGB image with each hit's box, phrase and score, in its color.

    Where boxes coincide, the first is on top; names stand below each other.
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
    """Write an image with the boxes of its hits drawn to `path`; the suffix names the format.

    Parameters
    ----------
    image : path
        The image. If the hits come from an index, it must still be the file that was indexed.
    hits : sequence of Hit
        What to draw; of none, the picture is written as it is.
    path : path
        The file to write, in one step.

    Raises
    ------
    ImageError
        If the image cannot be used.
    GroundingError
        If the format is unknown or the file cannot be written.
    """
    target = Path(path)
    known = next((hit.content_hash for hit in hits if hit.content_hash), None)
    drawn = draw_hits(load_image(image, known), hits)
    try:
        kind = Image.registered_extensions()[target.suffix.lower()]
        with atomic_path(target) as temporary:
            drawn.save(temporary, format=kind)
    except KeyError as error:
        raise GroundingError(f"cannot write {target}: name a .png or .jpg file") from error
    except OSError as error:
        raise GroundingError(f"cannot write {target}: {error.strerror or error}") from error


def render_html(
    hits: Sequence[Hit],
    path: PathLike,
    title: str | None = None,
    phrases: Sequence[str] | None = None,
) -> None:
    """Write one page that shows hits by phrase, with photographs inside; nothing is loaded.

    A file that is not the one that was indexed is not shown, whatever it is now.

    Parameters
    ----------
    hits : sequence of Hit
        In the order to show.
    path : path
        The HTML file, written in one step.
    title : str, optional
        Of the page; the phrases if left out.
    phrases : sequence of str, optional
        What was asked, so that the page also names what was not found; the hits' phrases if left
        out.

    Raises
    ------
    GroundingError
        If the file cannot be written.
    """
    asked = list(dict.fromkeys([*(phrases or ()), *(hit.phrase for hit in hits)]))
    title = title or ", ".join(asked) or "retrieval_grounding"
    sections = [] if asked else [_NOTHING]
    for phrase in asked:
        figures = "\n".join(_figure(hit) for hit in hits if hit.phrase == phrase)
        heading = "" if phrase == title else f"<h2>{html.escape(phrase)}</h2>\n"
        found = f'<div class="hits">\n{figures}\n</div>' if figures else _NOTHING
        sections.append(heading + found)
    write_html(path, title, "\n".join(sections))


def write_html(path: PathLike, title: str, body: str, style: str = "") -> None:
    """Write a page in the project's style in one step; `body` is HTML, `title` is text.

    Raises
    ------
    GroundingError
        If the file cannot be written.
    """
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n"
        f"<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )
    try:
        atomic_write_bytes(Path(path), page.encode("utf-8", "replace"))
    except OSError as error:
        raise GroundingError(f"cannot write {path}: {error.strerror or error}") from error


def embed_image(image: Image.Image, alt: str) -> str:
    """Return a picture as an HTML element that holds it, scaled down if it is large."""
    small = image.copy()
    small.thumbnail((_PAGE_IMAGE_SIDE, _PAGE_IMAGE_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{data}" alt="{html.escape(alt)}">'


def missing_image(error: ImageError) -> str:
    """Return what stands on a page in the place of an image that cannot be read."""
    return f'<div class="missing">{html.escape(error.reason)}</div>'


def _figure(hit: Hit) -> str:
    caption = f"<b>{hit.certainty}</b> {html.escape(hit.label)}<br>{html.escape(hit.image)}"
    return f"<figure>\n{_picture(hit)}\n<figcaption>{caption}</figcaption>\n</figure>"


def _picture(hit: Hit) -> str:
    try:
        return embed_image(draw_hits(load_image(hit.image, hit.content_hash), [hit]), hit.phrase)
    except ImageError as error:
        return missing_image(error)


def _line_width(image: Image.Image) -> int:
    return max(2, round(max(image.size) / 250))
