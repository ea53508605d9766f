"""Hits as one self-contained HTML page."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from ..core.errors import GroundingError, ImageError
from ..core.hits import Hit
from ..core.output_file import check_suffix, write_output
from ..core.text import counted
from ..core.types import PathLike
from .page_photos import Mark, data_url, page_photos, phrase_colors
from .templating import as_html, render

__all__ = ["embed_image", "missing_image", "render_html", "write_html"]

_REPORT_PIXELS = 640 * 640
_TITLE_PHRASES = 3
_FEW = 6  # hits up to which pictures are larger


@dataclass(frozen=True)
class _Section:
    """A phrase and its hits."""

    phrase: str
    color: str
    hits: list[Mark]


def render_html(
    hits: Sequence[Hit],
    path: PathLike,
    title: str | None = None,
    phrases: Sequence[str] | None = None,
    picture: Callable[[Hit], tuple[Image.Image, Hit]] | None = None,
) -> None:
    """Write one HTML page that shows hits by phrase.

    The page needs no other file and no network. Each photograph is embedded once, scaled down, and
    opens large with the boxes of all its hits; it has a link to the file. If a photograph is
    missing or has changed since it was indexed, the page shows the reason instead.

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
    picture : callable, optional
        Returns the picture of a hit, and the hit in its pixels: :meth:`Index.picture`, which also
        knows the thumbnails that an index keeps. Defaults to the photograph itself.

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
    check_suffix(path, "text/html")
    shown = list(dict.fromkeys([*(phrases or ()), *(hit.phrase for hit in hits)]))
    colors = phrase_colors(shown)
    ordered = [hit for phrase in shown for hit in hits if hit.phrase == phrase]
    photos = page_photos(ordered, colors, picture)
    marks = {path: iter(photo.marks) for path, photo in photos.items()}  # in the order of the hits
    sections = [
        _Section(p, colors[p], [next(marks[hit.image]) for hit in ordered if hit.phrase == p])
        for p in shown
    ]
    page = render(
        "hits.html",
        title=title or _title(shown),
        summary=_summary(len(hits), len(photos)),
        sections=sections,
        few=len(hits) <= _FEW,
        photos=photos,
        readable=[photo for photo in photos.values() if photo.source],
        probabilities=any(hit.probability is not None for hit in hits),
    )
    write_output(path, page.encode("utf-8", "replace"))


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
    page = render("report.html", title=title, body=as_html(body), style=as_html(style))
    check_suffix(path, "text/html")
    write_output(path, page.encode("utf-8", "replace"))


def embed_image(image: Image.Image, alt: str) -> str:
    """Return an ``<img>`` element with the picture embedded, scaled down if it is large."""
    return f'<img src="{data_url(image, _REPORT_PIXELS)}" alt="{html.escape(alt)}">'


def missing_image(error: ImageError) -> str:
    """Return the element that replaces an image that cannot be read."""
    return f'<div class="missing">{html.escape(error.reason)}</div>'


def _title(phrases: Sequence[str]) -> str:
    more = len(phrases) - _TITLE_PHRASES
    if len(phrases) == 1:
        return phrases[0]
    listed = ", ".join(textwrap.shorten(p, 40, placeholder="…") for p in phrases[:_TITLE_PHRASES])
    return f"{listed} and {more} more" if more > 0 else listed or "retrieval_grounding"


def _summary(hits: int, photos: int) -> str:
    return f"{counted(hits, 'hit')} in {counted(photos, 'photograph')}" if hits else ""
