"""A pool of CPU threads, each of which runs a model with a single PyTorch thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ..core.fork import ForkSafeLock

__all__ = ["CpuPool", "cpu_pool"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class CpuPool:
    """Runs a model for several inputs side by side instead of splitting each layer.

    The layers of a small network are too short to be worth splitting: PyTorch's threads would wait
    for each other after each of them. Here every thread works on its own crops, whose activations
    stay in its cache, while other threads cut out and scale the next crops.

    Parameters
    ----------
    size : int, optional
        Number of threads; PyTorch's own number if left out.
    """

    def __init__(self, size: int | None = None) -> None:
        import torch

        usual = torch.get_num_threads()
        self.size = size or usual
        self._inside = threading.local()
        started = threading.Barrier(self.size + 1)

        def begin() -> None:
            self._inside.is_worker = True
            torch.get_num_threads()  # the first call in a thread adopts the process's number
            torch.set_num_threads(1)
            started.wait()

        self._pool = ThreadPoolExecutor(self.size, "cpu-pool")
        for _ in range(self.size):
            self._pool.submit(begin)
        started.wait()
        # Each thread keeps its number; threads that start later adopt the last number set.
        torch.set_num_threads(usual)

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return ``function(item)`` for each item, in order; the first error is raised.

        A single item runs in the caller's thread, with all of PyTorch's threads. Called in one of
        the pool's own threads, all items do, since the others may be waiting for them.
        """
        if len(items) == 1 or getattr(self._inside, "is_worker", False):
            return [function(item) for item in items]
        return list(self._pool.map(function, items))

    def run(self, function: Callable[[], Result]) -> Result:
        """Return ``function()``, called in one of the threads: for work too small to be split."""
        return self._pool.submit(function).result()


_pools: dict[int, CpuPool] = {}
_lock = ForkSafeLock()


def cpu_pool() -> CpuPool:
    """Return the pool that all models of this process share."""
    with _lock:
        process = os.getpid()  # a forked process does not inherit threads
        if process not in _pools:
            _pools[process] = CpuPool()
        return _pools[process]
