"""Lanes: CPU threads that each run a model with a single thread of PyTorch."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["Lanes", "cpu_lanes"]


Item = TypeVar("Item")
Result = TypeVar("Result")


class Lanes:
    """A pool in which as many models run side by side as PyTorch would take threads for one.

    Layers of a small network are too short to be worth splitting: threads that share one wait for
    each other after every layer. On lanes each works on crops of its own, whose activations
    stay in its cache, and cutting out and scaling the next crops fills the gaps.

    Parameters
    ----------
    count : int, optional
        Threads; by default as many as PyTorch uses.
    """

    def __init__(self, count: int | None = None) -> None:
        import torch

        usual = torch.get_num_threads()
        self.count = count or usual
        started = threading.Barrier(self.count + 1)

        def begin() -> None:
            torch.get_num_threads()  # a thread's first look takes the process' number
            torch.set_num_threads(1)
            started.wait()

        self._pool = ThreadPoolExecutor(self.count, "lane")
        for _ in range(self.count):
            self._pool.submit(begin)
        started.wait()
        # Each thread keeps its number; threads that start later take the last that was set.
        torch.set_num_threads(usual)

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return ``function(item)`` of all items, in order; the first error is raised.

        A single item runs in the caller's thread, with all of PyTorch's threads.
        """
        if len(items) == 1:
            return [function(items[0])]
        return list(self._pool.map(function, items))


_lanes: dict[int, Lanes] = {}
_lock = threading.Lock()


def cpu_lanes() -> Lanes:
    """Return the lanes of this process, which all models share."""
    with _lock:
        process = os.getpid()  # threads are not there in a process that was forked
        if process not in _lanes:
            _lanes[process] = Lanes()
        return _lanes[process]
