"""What all commands share: common parameters, and printing for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["Device", "Html", "IndexDirectory", "Json", "print_json", "print_table", "printable"]

IndexDirectory = Annotated[Path, typer.Argument(help="Folder of an index.", metavar="INDEX")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Html = Annotated[
    Path | None, typer.Option("--html", help="Also write one self-contained page with pictures.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]


def print_table(
    header: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, header_in_pipe: bool = False
) -> None:
    """Print a table to a terminal, and tab-separated lines into a pipe."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        for row in (header, *rows) if header_in_pipe else rows:
            typer.echo("\t".join(printable(" ".join(cell.split())) for cell in row))
        return
    table = Table(*header, box=None, header_style="bold", show_header=any(header))
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))
    console.print(table)


def printable(text: str) -> str:
    r"""Return text with what is no visible character escaped.

    A file name may hold commands for the terminal.

    >>> printable("a\x1b[31m\nb")
    'a\\x1b[31m\\nb'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def print_json(value: Any) -> None:
    """Print a value as JSON, as people read it; bytes of a path that are no text are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    typer.echo(text.encode("utf-8", "backslashreplace").decode("utf-8"))
