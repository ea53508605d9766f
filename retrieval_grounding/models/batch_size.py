"""Batches that fit into memory."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["Halving", "free_memory", "is_out_of_memory"]


Item = TypeVar("Item")
Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the memory of the device, or of the machine, is full."""
    # By name: PyTorch's own class is a RuntimeError, and needs no import where it is not used.
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def free_memory() -> None:
    """Give memory of the GPU that is cached but unused back, before a smaller batch is tried."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class Halving:
    """Calls a model with as many items as fit into memory: half as many after each failure."""

    def __init__(self) -> None:
        self._limit: int | None = None

    def __call__(
        self, function: Callable[[list[Item]], Sequence[Result]], items: Sequence[Item]
    ) -> list[Result | None]:
        """Return what `function` gives for each item; None for one that alone fills the memory."""
        results: list[Result | None] = []
        while len(results) < len(items):
            part = list(items[len(results) :][: self._limit])
            try:
                results += function(part)
                continue
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # Out here the error is gone, and with its traceback the tensors that filled the memory.
            free_memory()
            if len(part) > 1:
                self._limit = len(part) // 2
            else:
                results.append(None)
        return results
