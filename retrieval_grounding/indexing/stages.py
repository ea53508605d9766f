"""Stages that overlap: while one batch is encoded, the next is detected and others are read."""

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
    """Yield ``function(item)`` in order, computed by one thread while the caller works.

    The caller's thread takes the items, so stages can be chained: at most ``ahead + 1`` items of
    each stage are under way. An error of `function` is raised where its result would have come.
    Closing the generator waits for the item in work, and drops what has not begun.

    Parameters
    ----------
    function : callable
        The work of the stage; it runs for one item at a time.
    items : iterable
        Taken in the caller's thread.
    ahead : int
        Items that wait while one is in work.

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
            del item  # or else it lives until the next one has come
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
