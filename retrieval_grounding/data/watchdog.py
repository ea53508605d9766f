"""Noticing that something takes too long."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

__all__ = ["Watchdog"]


class Watchdog:
    """Calls a function if a block of code takes too long; the same thread watches all blocks.

    Parameters
    ----------
    expire : callable
        Called in the thread, once for a block.
    interval : float
        How many seconds may pass before it is called.
    """

    def __init__(self, expire: Callable[[], None], interval: float) -> None:
        self._interval = interval
        self._expire = expire
        self._deadline: float | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watching(self, seconds: float) -> Iterator[None]:
        """Watch a block that may take some seconds."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline = None

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._closing.wait(self._interval):
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                self._deadline = None
                self._expire()
