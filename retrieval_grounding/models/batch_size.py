"""Batch sizes that fit into memory."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..core.fork import ForkSafeLock

__all__ = ["RECORDING", "AdaptiveBatchSize", "free_memory", "is_out_of_memory"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)

_SIGNS = ("can't allocate memory", "not enough memory", "bad_alloc", "bad allocation",
          "error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")  # fmt: skip
"""In messages of PyTorch's CPU allocator on Linux and Windows, of C++, of CUDA and its libraries,
which also take memory beside PyTorch's allocator, such as for a graph."""

RECORDING = ForkSafeLock()
"""Held while a CUDA graph is recorded: only one may be at a time in a process, and whoever releases
cached memory meanwhile would spoil it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory of the device or of the machine is full."""
    # By name: PyTorch's class is a RuntimeError, and this module must not import PyTorch. On a CPU
    # it raises a plain RuntimeError, and so do other libraries whose allocation fails.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def free_memory() -> None:
    """Release cached GPU memory before a smaller batch is tried."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        with RECORDING:
            torch.cuda.empty_cache()


class AdaptiveBatchSize:
    """Calls a model with batches that fit into memory, halving the batch after each failure.

    The idea is that of `accelerate.utils.find_executable_batch_size`; here a batch that failed is
    split, so no item is computed twice. The size that worked is kept for later calls.
    """

    def __init__(self) -> None:
        self._limit: int | None = None

    def __call__(
        self, function: Callable[[list[Item]], Sequence[Result]], items: Sequence[Item]
    ) -> list[Result | None]:
        """Return the result for each item; None for one that fills the memory by itself.

        Parameters
        ----------
        function : callable
            Takes a list of items and returns one result for each.
        items : sequence
            At any number.
        """
        results: list[Result | None] = []
        while len(results) < len(items):
            batch = list(items[len(results) :][: self._limit])
            try:
                results += function(batch)
                continue
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # The error, whose traceback holds the tensors that filled the memory, is gone here.
            free_memory()
            if len(batch) > 1:
                self._limit = len(batch) // 2
                _log.warning("out of memory with %d items; trying %d", len(batch), self._limit)
            else:
                results.append(None)
        return results
