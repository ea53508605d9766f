"""Tables with a column of paths: no path is ever broken, so it can be copied."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

import typer

from .links import file_link, supports_links
from .output import print_table, printable, say

__all__ = ["print_path_table"]

_GAP = "  "


def print_path_table(
    header: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    column: int,
    files: Sequence[str] = (),
    *,
    header_in_pipe: bool = False,
) -> None:
    """Print a table on a terminal, and tab-separated lines into a pipe.

    If the terminal is too narrow for a table, each path gets a line of its own. A path longer than
    that line goes on in the next one without a line break, so a terminal copies it in one piece.

    Parameters
    ----------
    header : tuple of str
        Names of the columns.
    rows : sequence of tuples of str
        The cells.
    column : int
        Number of the column of paths: the first or the last.
    files : sequence of str, optional
        One absolute path for each row, to which the path becomes a link.
    header_in_pipe : bool
        As for :func:`print_table`.
    """
    if not sys.stdout.isatty():
        print_table(header, rows, header_in_pipe=header_in_pipe)
        return
    from rich.cells import cell_len

    table = [header, *(tuple(printable(cell) for cell in row) for row in rows)]
    sizes = [max(cell_len(row[number]) for row in table) for number in range(len(header))]
    column %= len(header)
    fits = sum(sizes) + len(_GAP) * (len(sizes) - 1) <= shutil.get_terminal_size().columns
    links = files if supports_links() else ()
    for number, row in enumerate(table):
        padded = [
            cell + " " * (size - cell_len(cell)) for cell, size in zip(row, sizes, strict=True)
        ]
        path, space = row[column], padded[column][len(row[column]) :]
        if number and links:
            path = file_link(path, links[number - 1])
        rest = [cell for other, cell in enumerate(padded) if other != column]
        lines = _lines(path, path + space, rest, first=column == 0, fits=fits)
        for line in lines:
            say(line if number else typer.style(line, bold=True))


def _lines(path: str, padded: str, rest: Sequence[str], *, first: bool, fits: bool) -> list[str]:
    """Return the lines of one row."""
    cells = _GAP.join(rest).rstrip()
    if fits:
        return [_GAP.join([padded, cells] if first else [*rest, path]).rstrip()]
    if not rest:
        return [path]
    return [path, _GAP + cells] if first else [cells, _GAP + path]
