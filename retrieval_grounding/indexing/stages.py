"""Overlapping stages: while one batch is encoded, the next is detected and others are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["overlapped"]


Item = TypeVar("Item")
Result = TypeVar("Result")


def overlapped(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 1
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` in order, computed in a thread while the caller works.

    Items are taken in the caller's thread, so stages can be chained; at most ``ahead + 1`` items of
    a stage are in progress. An error of `function` is raised in place of its result. Closing the
    generator waits for the current item and drops those that have not started.

    Parameters
    ----------
    function : callable
        The work of the stage; it is called for one item at a time.
    items : iterable
        Taken in the caller's thread.
    ahead : int
        Number of items that wait while one is processed.

    Examples
    --------
    >>> list(overlapped(str, overlapped(abs, [-1, 2, -3])))
    ['1', '2', '3']
    """
    pool = ThreadPoolExecutor(1, getattr(function, "__name__", "stage"))
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            del item  # otherwise it stays in memory until the next one arrives
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
