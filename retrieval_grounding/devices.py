"""Choosing where the models run."""

from __future__ import annotations

import gc
import sys

from .errors import ModelError

__all__ = ["free_memory", "is_out_of_memory", "resolve_device"]


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
