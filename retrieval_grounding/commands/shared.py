"""What all commands share: common parameters, and printing for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..presets import PRESETS

if TYPE_CHECKING:
    from ..detectors import DetectorSettings

__all__ = [
    "ClipName", "Confidence", "DetectorName", "Device", "Html", "IndexDirectory", "Iou", "Json",
    "MaxBoxes", "PresetName", "detector_settings", "note", "print_json", "print_table",
    "printable", "shown_path",
]  # fmt: skip

IndexDirectory = Annotated[Path, typer.Argument(help="Folder of an index.", metavar="INDEX")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Html = Annotated[
    Path | None, typer.Option("--html", help="Also write one self-contained page with pictures.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]

PresetName = Annotated[
    str | None, typer.Option("--preset", "-p", help=f"{', '.join(PRESETS)}; see 'models'.")
]
DetectorName = Annotated[
    str | None,
    typer.Option("--detector", help="A .pt file, a published name such as yolo11s.pt, or nano."),
]
ClipName = Annotated[
    str | None,
    typer.Option("--clip", help="MODEL:PRETRAINED, MODEL:FILE, hf-hub:ORG/NAME, a folder, nano."),
]
Confidence = Annotated[
    float | None, typer.Option(help="Drop boxes below this score (default 0.05).")
]
Iou = Annotated[float | None, typer.Option(help="Merge boxes that overlap more (default 0.6).")]
MaxBoxes = Annotated[int | None, typer.Option(help="Boxes kept an image (default 50).")]


def detector_settings(
    confidence: float | None, iou: float | None, max_boxes: int | None
) -> DetectorSettings | None:
    """Return settings if one of them was given; an index keeps its own otherwise."""
    from ..detectors import DetectorSettings

    given = {"confidence": confidence, "iou": iou, "max_boxes": max_boxes}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return DetectorSettings(**chosen) if chosen else None


def print_table(
    header: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, header_in_pipe: bool = False
) -> None:
    """Print a table to a terminal, and tab-separated lines into a pipe.

    Cells that are too long for the terminal go on in the next line: nothing is cut off.
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
    r"""Return text with what is no visible character escaped.

    A file name may hold commands for the terminal.

    >>> printable("a\x1b[31m\nb")
    'a\\x1b[31m\\nb'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown_path(path: str) -> str:
    """Return a path as short as it can be typed: without the current folder."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def note(text: str) -> None:
    """Tell a person something that is no result: on stderr, so that a pipe holds results only."""
    typer.echo(printable(text), err=True)


def print_json(value: Any) -> None:
    """Print a value as JSON, as people read it; bytes of a path that are no text are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    typer.echo(text.encode("utf-8", "backslashreplace").decode("utf-8"))
