"""Where models run."""

from __future__ import annotations

from typing import Any

from ..core.errors import ModelError

__all__ = ["describe_devices", "resolve_device"]


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
