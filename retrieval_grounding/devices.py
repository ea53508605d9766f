"""Choosing where the models run."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from .errors import ModelError

__all__ = ["Halving", "describe_devices", "free_memory", "is_out_of_memory", "resolve_device"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def resolve_device(device: str = "auto") -> str:
    """Return a PyTorch device name: ``"auto"`` takes the first CUDA GPU, or else the CPU.

    Raises
    ------
    ModelError
        If `device` is malformed or names a GPU that this machine lacks.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ModelError(f"{device!r} is no device; use auto, cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {device!r} was asked for, but no CUDA GPU is usable; use cpu")
    return device


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


def describe_devices(detector: Any, encoder: Any) -> str:
    """Say in one line where models run, and on how many threads or by which library.

    Parameters
    ----------
    detector, encoder
        Loaded models; one without a ``device`` is said to run in a way of its own.

    Examples
    --------
    >>> describe_devices(object(), object())
    'detector: its own way; encoder: its own way'
    """
    parts = [("detector", detector), ("encoder", encoder)]
    return "; ".join(f"{name}: {_describe(model)}" for name, model in parts)


def _describe(model: Any) -> str:
    device = getattr(model, "device", None)
    if not isinstance(device, str):
        return "its own way"
    import torch

    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)}), float16"
    library = getattr(model, "library", "PyTorch")
    return f"CPU, {torch.get_num_threads()} threads, {library}"
