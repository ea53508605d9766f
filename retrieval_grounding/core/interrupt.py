"""Ctrl-C as a request to stop at the next safe point."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["graceful_interrupt"]


@contextlib.contextmanager
def graceful_interrupt() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed inside the block.

    A second Ctrl-C raises ``KeyboardInterrupt`` as usual. Outside the main thread, or if the
    program has its own handler, nothing changes.
    """
    pressed = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            signal.default_int_handler(number, frame)
        pressed = True
        message = "stopping after this batch; press Ctrl-C again to stop at once\n"
        try:
            sys.stderr.write(message)
        except RuntimeError:  # the signal came in the middle of writing to it
            os.write(2, message.encode())
        except (AttributeError, OSError, ValueError):
            pass  # closed: there is no place for the message

    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or (
        usual is not signal.default_int_handler
    ):
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, usual)
