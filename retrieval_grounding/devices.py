"""Choosing where the models run."""

from __future__ import annotations

from .errors import ModelError

__all__ = ["resolve_device"]


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
