"""Tables as HTML, for pages and notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence

__all__ = ["table_html"]


def table_html(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Return a table with all text escaped.

    Parameters
    ----------
    header : sequence of str
        Names of the columns; empty for a table without them.
    rows : sequence of sequences of str
        The cells.

    Examples
    --------
    >>> table_html(("name", "IoU"), [("a < b", "0.5")])
    '<table><tr><th>name</th><th>IoU</th></tr>\n<tr><td>a &lt; b</td><td>0.5</td></tr></table>'
    """
    lines = [_row(header, "th")] if header else []
    return f"<table>{chr(10).join([*lines, *(_row(row, 'td') for row in rows)])}</table>"


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
