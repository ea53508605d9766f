"""What hits and an index look like in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ImageError
from ..core.hits import Hit
from ..data.images import load_image
from .draw import COLORS, draw_boxes
from .page_photos import data_url, sure_label
from .templating import render

__all__ = ["hits_html", "index_html"]

_SHOWN = 12
_PIXELS = 320 * 240  # of a picture; a notebook keeps them all in its file


def hits_html(hits: Sequence[Hit]) -> str:
    """Return hits as HTML without styles or ids that could reach other cells of a notebook.

    Parameters
    ----------
    hits : sequence of Hit
        The first dozen are shown with pictures; the rest is counted.
    """
    shown = hits[:_SHOWN]
    cards = [
        {
            "picture": _picture(hit.image, hit.content_hash, hit.box),
            "title": hit.phrase,
            "certainty": hit.certainty,
            "label": sure_label(hit),
            "path": hit.image,
            "name": Path(hit.image).name,
        }
        for hit in shown
    ]
    return render("notebook.html", cards=cards, rows={}, more=len(hits) - len(shown))


def index_html(facts: Mapping[str, Any], images: Sequence[tuple[str, str]]) -> str:
    """Return what an index holds as HTML.

    Parameters
    ----------
    facts : mapping
        Rows of a table.
    images : sequence of (path, content hash)
        Photographs to show.
    """
    cards = [
        {
            "picture": _picture(path, content_hash, None),
            "title": "",
            "certainty": "",
            "label": "",
            "path": path,
            "name": Path(path).name,
        }
        for path, content_hash in images
    ]
    return render("notebook.html", cards=cards, rows=facts, more=0)


def _picture(
    path: str, content_hash: str | None, box: tuple[float, float, float, float] | None
) -> dict[str, str]:
    try:
        image = load_image(path, content_hash)
    except ImageError as error:
        return {"source": "", "reason": error.reason}
    drawn = image if box is None else draw_boxes(image, [(box, COLORS[0])])
    return {"source": data_url(drawn, _PIXELS), "reason": ""}
