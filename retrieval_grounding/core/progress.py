"""Progress: a bar on a terminal or in a notebook, a line every few seconds in a log."""

from __future__ import annotations

import contextlib
import html
import sys
import threading
import time
from collections.abc import Callable, Iterator

__all__ = ["progress_bar"]

_SECONDS_PER_LINE = 5.0
_SECONDS_PER_UPDATE = 0.2  # of a notebook


@contextlib.contextmanager
def progress_bar(
    description: str, total: int, unit: str, shown: bool | None = None
) -> Iterator[Callable[[int], None]]:
    """Show progress with the rate on stderr, and yield a function that advances it.

    On a terminal and in a notebook this is a bar. Elsewhere, for example in a log, it is a line
    every few seconds, so short work leaves none.

    Parameters
    ----------
    description : str
        What is being done.
    total : int
        Steps until the end.
    unit : str
        What is counted, for the rate: ``"images"`` shows images/s.
    shown : bool, optional
        False shows nothing.
    """
    if shown is False:
        yield lambda steps: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    show = _notebook if console.is_jupyter else _bar if console.is_terminal else _lines
    with show(description, total, unit) as advance:
        yield advance


@contextlib.contextmanager
def _bar(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.1f} {unit}/s" if speed else f"… {unit}/s")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total)
        yield lambda steps: progress.advance(task, steps)


@contextlib.contextmanager
def _notebook(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a bar below the cell: plain HTML, so it needs no widgets and stays in the file."""
    from IPython.display import HTML, display

    done, started, updated = 0, time.monotonic(), 0.0

    def bar() -> object:
        rate = done / max(1e-9, time.monotonic() - started)
        text = f"{description}: {done:,} of {total:,} {unit}, {rate:.1f} {unit}/s"
        return HTML(
            f'<progress value="{done}" max="{max(1, total)}"></progress> {html.escape(text)}'
        )

    handle = display(bar(), display_id=True)

    def advance(steps: int) -> None:
        nonlocal done, updated
        done += steps
        if time.monotonic() - updated >= _SECONDS_PER_UPDATE:
            updated = time.monotonic()
            handle.update(bar())

    try:
        yield advance
    finally:
        handle.update(bar())


@contextlib.contextmanager
def _lines(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    done, started = 0, time.monotonic()
    finished = threading.Event()

    def advance(steps: int) -> None:
        nonlocal done
        done += steps

    def report() -> None:
        while not finished.wait(_SECONDS_PER_LINE):
            rate = done / (time.monotonic() - started)
            left = f", about {_duration((total - done) / rate)} left" if rate else ""
            line = f"{description}: {done:,} of {total:,} {unit}, {rate:.1f} {unit}/s{left}\n"
            with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr was closed
                sys.stderr.write(line)
                sys.stderr.flush()

    thread = threading.Thread(target=report, name="progress", daemon=True)
    thread.start()
    try:
        yield advance
    finally:
        finished.set()
        thread.join()


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"
