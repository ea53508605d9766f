"""Hits as one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from PIL import Image

from ..core.errors import GroundingError, ImageError
from ..core.groups import shown_label
from ..core.hits import Hit
from ..core.output_file import check_suffix, write_output
from ..core.types import PathLike
from ..data.images import load_image
from .draw import draw_hits

__all__ = ["embed_image", "missing_image", "render_html", "write_html"]

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


def render_html(
    hits: Sequence[Hit],
    path: PathLike,
    title: str | None = None,
    phrases: Sequence[str] | None = None,
) -> None:
    """Write one HTML page that shows hits by phrase.

    The photographs are embedded, scaled down to 640 pixels, so the page needs no other file. If a
    photograph is missing or has changed since it was indexed, the page shows the reason instead.

    Parameters
    ----------
    hits : sequence of Hit
        What to show, in this order, as :meth:`Index.query` and :func:`ground` return them.
    path : path
        The HTML file, or a device. A failure leaves an existing file intact.
    title : str, optional
        Title of the page. Defaults to the phrases.
    phrases : sequence of str, optional
        The phrases of the query. The page then also names those without hits. Defaults to the
        phrases of the hits.

    Raises
    ------
    GroundingError
        If `hits` is not a flat list of hits, the file cannot be written, or its suffix stands for a
        different format.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> page = Path(tempfile.mkdtemp()) / "page.html"
    >>> render_html([], page, phrases=["a unicorn"])
    >>> "Nothing was found." in page.read_text(encoding="utf-8")
    True
    """
    for hit in hits:
        if not isinstance(hit, Hit):
            raise GroundingError(
                f"a page shows a flat list of hits, and this one has a {type(hit).__name__}; for "
                "several phrases, join their lists"
            )
    shown = list(dict.fromkeys([*(phrases or ()), *(hit.phrase for hit in hits)]))
    title = title or ", ".join(shown) or "retrieval_grounding"
    sections = [] if shown else [_NOTHING]
    for phrase in shown:
        figures = "\n".join(_figure(hit) for hit in hits if hit.phrase == phrase)
        heading = "" if phrase == title else f"<h2>{html.escape(phrase)}</h2>\n"
        found = f'<div class="hits">\n{figures}\n</div>' if figures else _NOTHING
        sections.append(heading + found)
    write_html(path, title, "\n".join(sections))


def write_html(path: PathLike, title: str, body: str, style: str = "") -> None:
    """Write a page in the project's style, in one step.

    Parameters
    ----------
    path : path
        The HTML file.
    title : str
        Plain text; it is escaped.
    body : str
        HTML, with all text in it already escaped.
    style : str
        More CSS.

    Raises
    ------
    GroundingError
        If the file cannot be written, or its suffix stands for a different format.
    """
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n"
        f"<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )
    check_suffix(path, "text/html")
    write_output(path, page.encode("utf-8", "replace"))


def embed_image(image: Image.Image, alt: str) -> str:
    """Return an ``<img>`` element with the picture embedded, scaled down if it is large."""
    small = image.copy()
    small.thumbnail((_PAGE_IMAGE_SIDE, _PAGE_IMAGE_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{data}" alt="{html.escape(alt)}">'


def missing_image(error: ImageError) -> str:
    """Return the element that replaces an image that cannot be read."""
    return f'<div class="missing">{html.escape(error.reason)}</div>'


def _figure(hit: Hit) -> str:
    caption = (
        f"<b>{hit.certainty}</b> {html.escape(shown_label(hit.label))}<br>{html.escape(hit.image)}"
    )
    return f"<figure>\n{_picture(hit)}\n<figcaption>{caption}</figcaption>\n</figure>"


def _picture(hit: Hit) -> str:
    try:
        return embed_image(draw_hits(load_image(hit.image, hit.content_hash), [hit]), hit.phrase)
    except ImageError as error:
        return missing_image(error)
