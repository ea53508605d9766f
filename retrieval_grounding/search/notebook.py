"""What hits and an index look like in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ImageError
from ..core.hits import Hit
from ..core.types import Box
from ..data.images import load_image
from .draw import COLORS, draw_boxes
from .page_photos import data_url, sure_label
from .templating import render

__all__ = ["hits_html", "index_html"]

_SHOWN = 12
_WIDTH, _SINGLE_WIDTH = 200, 400  # on the screen; a notebook keeps all pictures in its file
_SHARPNESS = 1.5  # pixels of a picture for one of the screen
_LINE = 3


def hits_html(hits: Sequence[Hit]) -> str:
    """Return hits as HTML without styles or ids that could reach other cells of a notebook.

    Parameters
    ----------
    hits : sequence of Hit
        The first dozen are shown with pictures; the rest is counted.
    """
    shown = hits[:_SHOWN]
    width = _SINGLE_WIDTH if len(hits) == 1 else _WIDTH
    cards = [
        {
            "picture": _picture(hit.image, hit.content_hash, hit.box, width),
            "title": hit.phrase,
            "certainty": hit.certainty,
            "label": sure_label(hit),
            "path": hit.image,
            "name": Path(hit.image).name,
        }
        for hit in shown
    ]
    more = len(hits) - len(shown)
    return render("notebook.html", cards=cards, rows={}, more=more, width=width)


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
            "picture": _picture(path, content_hash, None, _WIDTH),
            "title": "",
            "certainty": "",
            "label": "",
            "path": path,
            "name": Path(path).name,
        }
        for path, content_hash in images
    ]
    return render("notebook.html", cards=cards, rows=facts, more=0, width=_WIDTH)


def _picture(path: str, content_hash: str | None, box: Box | None, width: int) -> dict[str, str]:
    try:
        image = load_image(path, content_hash)
    except ImageError as error:
        return {"source": "", "reason": error.reason}
    scale = min(1.0, _SHARPNESS * width / max(image.width, image.height * 4 / 3))
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    if box is not None:
        small = draw_boxes(small, [([scale * value for value in box], COLORS[0])], _LINE)
    return {"source": data_url(small), "reason": ""}
