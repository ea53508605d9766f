"""Drawing hits: on an image, and as one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .errors import GroundingError, ImageError
from .hits import Hit
from .images import PathLike, load_image
from .storage.files import atomic_path, atomic_write_bytes

__all__ = [
    "draw_boxes", "draw_hit", "embed_image", "missing_image", "render_html", "save_hit",
    "write_html",
]  # fmt: skip

_BOX_COLOUR = (230, 30, 90)
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
    """Return a copy of an upright RGB image with boxes (corners and colour) drawn in order."""
    canvas = image.copy()
    draw = ImageDraw.Draw(canvas)
    for box, colour in boxes:
        draw.rectangle(tuple(box), outline=colour, width=_line_width(image))
    return canvas


def draw_hit(image: Image.Image, hit: Hit) -> Image.Image:
    """Return a copy of an upright RGB image with the hit's box, phrase and score on it."""
    canvas = draw_boxes(image, [(hit.box, _BOX_COLOUR)])
    draw = ImageDraw.Draw(canvas)
    line = _line_width(image)
    font = ImageFont.load_default(size=max(12, round(max(image.size) / 45)))
    text = f"{hit.phrase[:60]}  {hit.certainty}"
    x1, y1 = hit.box[:2]
    left, _, right, bottom = draw.textbbox((0, 0), text, font=font)
    x = min(max(0, x1), max(0, image.width - right - 2 * line))
    y = y1 - bottom - 2 * line if y1 > bottom + 2 * line else y1
    draw.rectangle((x, y, x + right - left + 2 * line, y + bottom + 2 * line), fill=_BOX_COLOUR)
    draw.text((x + line, y + line // 2), text, fill="white", font=font)
    return canvas


def save_hit(hit: Hit, path: PathLike) -> None:
    """Write the hit's image with its box drawn to `path`; the suffix names the format.

    Raises
    ------
    GroundingError
        If the format is unknown or the file cannot be written.
    """
    target = Path(path)
    drawn = draw_hit(load_image(hit.image, hit.content_hash), hit)
    try:
        kind = Image.registered_extensions()[target.suffix.lower()]
        with atomic_path(target) as temporary:
            drawn.save(temporary, format=kind)
    except KeyError as error:
        raise GroundingError(f"cannot write {target}: name a .png or .jpg file") from error
    except OSError as error:
        raise GroundingError(f"cannot write {target}: {error.strerror or error}") from error


def render_html(hits: Sequence[Hit], path: PathLike, title: str = "retrieval_grounding") -> None:
    """Write one page that shows hits by phrase, with photographs inside; nothing is loaded.

    A file that is not the one that was indexed is not shown, whatever it is now.

    Parameters
    ----------
    hits : sequence of Hit
        In the order to show.
    path : path
        The HTML file, written in one step.
    title : str
        Of the page.

    Raises
    ------
    GroundingError
        If the file cannot be written.
    """
    sections = []
    for phrase in dict.fromkeys(hit.phrase for hit in hits):
        figures = "\n".join(_figure(hit) for hit in hits if hit.phrase == phrase)
        sections.append(f'<h2>{html.escape(phrase)}</h2>\n<div class="hits">\n{figures}\n</div>')
    body = "\n".join(sections) or "<p>Nothing was found.</p>"
    write_html(path, title, body)


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
        return embed_image(draw_hit(load_image(hit.image, hit.content_hash), hit), hit.phrase)
    except ImageError as error:
        return missing_image(error)


def _line_width(image: Image.Image) -> int:
    return max(2, round(max(image.size) / 250))
