"""HTML from the templates of this folder; everything that is filled in is escaped."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

__all__ = ["as_html", "render"]

_FOLDER = Path(__file__).parent / "templates"


def render(name: str, **values: Any) -> str:
    """Return the template of this name, filled with `values`.

    Text is escaped unless it is ``markupsafe.Markup``.
    """
    return _templates().get_template(name).render(values)


@cache
def _templates() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # Pages allow this one script, so that no text of an index can ever run.
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment.globals.update(script=as_html(script), script_hash=f"sha256-{digest}")
    return environment


def as_html(text: str) -> Any:
    """Return HTML that a template takes as it is; all text in it has been escaped before."""
    import markupsafe

    return markupsafe.Markup(text)
