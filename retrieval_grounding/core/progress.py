"""Progress bars on a terminal, nothing in a pipe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["progress_bar"]


@contextlib.contextmanager
def progress_bar(
    description: str, total: int, unit: str, shown: bool | None = None
) -> Iterator[Callable[[int], None]]:
    """Show a bar with the rate on stderr, and yield a function that advances it.

    Parameters
    ----------
    description : str
        What is being done.
    total : int
        Steps until the end.
    unit : str
        What is counted, for the rate: ``"images"`` shows images/s.
    shown : bool, optional
        Whether to show the bar; None shows it if stderr is a terminal.
    """
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

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    visible = console.is_terminal if shown is None else shown
    with Progress(*columns, console=console, disable=not visible) as progress:
        task = progress.add_task(description, total=total)
        yield lambda steps: progress.advance(task, steps)
