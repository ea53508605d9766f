"""Pages from the templates of the service; everything that is filled in is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from fastapi.responses import HTMLResponse

__all__ = ["STATIC_FOLDER", "environment", "page"]

_FOLDER = Path(__file__).parent
STATIC_FOLDER = _FOLDER / "static"


@cache
def environment() -> jinja2.Environment:
    """Return the environment of the templates, for filters and globals."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return the template of this name, filled with `values`, as an answer."""
    return HTMLResponse(environment().get_template(name).render(values), status)
