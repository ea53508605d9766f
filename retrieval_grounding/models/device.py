"""Where models run."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.errors import ModelError

__all__ = ["describe_devices", "resolve_device"]

_AVAILABLE: dict[str, Callable[[Any], bool]] = {
    "cpu": lambda _: True,
    "cuda": lambda torch: bool(torch.cuda.is_available()),
    "mps": lambda torch: bool(torch.backends.mps.is_available()),
    "xpu": lambda torch: hasattr(torch, "xpu") and bool(torch.xpu.is_available()),
}
"""By type of a PyTorch device: whether there is one, given the module."""


def resolve_device(device: str = "auto") -> str:
    """Return a PyTorch device name; ``"auto"`` is the first CUDA GPU, or the CPU if there is none.

    Raises
    ------
    ModelError
        If `device` is malformed or names a GPU that this machine does not have.
    """
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ModelError(
            f"{device!r} is not a valid device; use auto, cpu, cuda, cuda:N, mps or xpu"
        ) from error
    if kind not in _AVAILABLE:
        raise ModelError(
            f"models cannot run on {device!r}; use auto, cpu, cuda, cuda:N, mps or xpu"
        )
    if kind != "cpu" and not _AVAILABLE[kind](torch):
        raise ModelError(f"PyTorch finds no device for {device!r} on this machine; use cpu")
    return device


def _may_have_gpu() -> bool:
    """Return False if there is certainly no GPU that ``"auto"`` would choose.

    Importing PyTorch to ask takes longer than most of what users do with an index.
    """
    if "torch" in sys.modules or sys.platform not in ("linux", "win32"):
        return True
    if Path("/dev/kfd").exists():  # AMD's driver, which PyTorch also calls CUDA
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def describe_devices(detector: Any, encoder: Any) -> str:
    """Describe in one line where models run, with the number of threads and the library.

    Parameters
    ----------
    detector, encoder
        Loaded models. Nothing is known of one that has no ``device``.

    Examples
    --------
    >>> describe_devices(object(), object())
    'detector: custom; encoder: custom'
    """
    parts = [("detector", detector), ("encoder", encoder)]
    return "; ".join(f"{name}: {_describe(model)}" for name, model in parts)


def _describe(model: Any) -> str:
    device = getattr(model, "device", None)
    if not isinstance(device, str):
        return "custom"
    import torch

    if not device.startswith(("cpu", "cuda")):
        return device
    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    library = getattr(model, "library", "PyTorch")
    return f"CPU, {torch.get_num_threads()} threads, {library}"
