"""Printing for people and for scripts, whatever stdout and stderr are connected to."""

from __future__ import annotations

import contextlib
import io
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..core.errors import GroundingError
from ..core.strict_json import json_text

__all__ = [
    "BrokenOutputError",
    "end_like_a_broken_pipe",
    "note",
    "prepare_streams",
    "print_json",
    "print_table",
    "printable",
    "say",
    "say_bytes",
    "shown_path",
]


class BrokenOutputError(Exception):
    """Whoever read stdout has closed it, as ``head`` does."""


def prepare_streams() -> None:
    """Make stdin, stdout and stderr usable, even if some are closed or of a narrow encoding.

    Otherwise the next file that is opened would take the number of a closed stream, and messages of
    libraries would go into it. Characters that the encoding lacks are escaped.
    """
    if os.name != "nt":
        for number in range(3):
            try:
                os.fstat(number)
            except OSError:
                # Writing to this stdout fails, so that results are not lost without an error.
                opened = os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
                os.set_inheritable(opened, True)
        sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str = "") -> None:
    """Print a line of results on stdout.

    Raises
    ------
    BrokenOutputError
        If its reader has closed it.
    GroundingError
        If it cannot be written for another reason.
    """
    _write(lambda: print(text, flush=True))  # noqa: T201


def say_bytes(data: bytes) -> None:
    """Write bytes to stdout as they are; errors are those of :func:`say`."""

    def write() -> None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    _write(write)


def _write(write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # what is in the buffer cannot be written
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise BrokenOutputError from error
        raise GroundingError(f"cannot write to stdout: {error.strerror or error}") from error


def end_like_a_broken_pipe() -> NoReturn:
    """End the process as the system ends a tool whose output nobody reads."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    sys.exit(1)


def print_table(
    header: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, header_in_pipe: bool = False
) -> None:
    """Print a table on a terminal, and tab-separated lines into a pipe.

    Long cells are wrapped, never truncated.
    """
    if not sys.stdout.isatty():
        for row in (header, *rows) if header_in_pipe else rows:
            say("\t".join(printable(cell) for cell in row))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    console = Console()
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
    """Print a message on stderr, so that stdout has only results.

    If stderr cannot be written, there is no place to report that, and the results matter more.
    """
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)  # noqa: T201


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print a value as strict JSON: numbers that are not finite become null.

    It is one line without `indent`. Bytes of a path that are not valid UTF-8 are escaped, and so is
    everything beyond ASCII if the encoding of stdout lacks a character.
    """
    value = _finite(value)
    text = json_text(value, indent=indent, ensure_ascii=False)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json_text(value, indent=indent)
    say(text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
