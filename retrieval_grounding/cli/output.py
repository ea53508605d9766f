"""Printing for people and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from ..core.strict_json import json_text

__all__ = ["note", "print_json", "print_table", "printable", "shown_path"]


def print_table(
    header: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, header_in_pipe: bool = False
) -> None:
    """Print a table on a terminal, and tab-separated lines into a pipe.

    Long cells are wrapped, never truncated.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    console = Console()
    if not console.is_terminal:
        for row in (header, *rows) if header_in_pipe else rows:
            typer.echo("\t".join(printable(cell) for cell in row))
        return
    columns = [Column(name, overflow="fold") for name in header]
    table = Table(*columns, box=None, pad_edge=False, header_style="bold", show_header=any(header))
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))
    console.print(table)


def printable(text: str) -> str:
    r"""Return text with all invisible characters escaped.

    A file name may contain control sequences for the terminal.

    >>> printable("a\x1b[31m\nb")
    'a\\x1b[31m\\nb'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown_path(path: str) -> str:
    """Return a path relative to the current folder if it is in there."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def note(text: str) -> None:
    """Print a message on stderr, so that stdout has only results."""
    typer.echo(printable(text), err=True)


def print_json(value: Any) -> None:
    """Print a value as indented JSON; bytes of a path that are not valid UTF-8 are escaped."""
    text = json_text(value, indent=2, ensure_ascii=False)
    typer.echo(text.encode("utf-8", "backslashreplace").decode("utf-8"))
