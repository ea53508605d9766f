"""CUDA streams: one for each thread, so that no stage of a build waits for another's kernels."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["own_stream"]


class _Own(threading.local):
    """The streams of a thread, by device."""

    def __init__(self) -> None:
        self.streams: dict[str, torch.cuda.Stream] = {}


_own = _Own()


@contextlib.contextmanager
def own_stream(device: str) -> Iterator[None]:
    """Let this thread's kernels on a CUDA device run beside those of other threads.

    Leave it only when the results have been copied to the CPU: another thread's kernels do not
    wait for what is still running here, and memory may be used again.
    """
    if not device.startswith("cuda"):
        yield
        return
    import torch

    if device not in _own.streams:
        _own.streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream = _own.streams[device]
    stream.wait_stream(torch.cuda.default_stream(device))  # where models are loaded
    with torch.cuda.stream(stream):
        yield
