"""An image tower run by OpenVINO, where it is installed: twice the crops per second on a CPU."""

from __future__ import annotations

import importlib.util
import threading
import warnings
from typing import Any

import torch

from ._quiet import quiet_libraries

__all__ = ["OpenVinoTower", "has_openvino", "openvino_tower"]


_LEAST_COSINE = 0.9999


def has_openvino() -> bool:
    """Tell whether OpenVINO is installed, without importing it."""
    return importlib.util.find_spec("openvino") is not None


class OpenVinoTower:
    """A tower that was converted; it may be called by several threads at once.

    Parameters
    ----------
    tower : nn.Module
        On the CPU, in evaluation mode; not changed.
    example : tensor
        An input of it, (n, 3, size, size) float32.
    threads : int
        Callers that run side by side; each gets a core.
    """

    def __init__(self, tower: torch.nn.Module, example: torch.Tensor, threads: int) -> None:
        import openvino

        shape = openvino.PartialShape([-1, *example.shape[1:]])
        with torch.inference_mode(), quiet_libraries():
            network = openvino.convert_model(tower, example_input=example, input=[shape])
        # Rounding to bfloat16, which some processors prefer, would change what is stored.
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
        }
        self._compiled: Any = openvino.Core().compile_model(network, "CPU", options)
        self._own = threading.local()

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the tower's output for float32 pixels (n, 3, size, size)."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        result = self._own.request.infer([pixels.contiguous().numpy()])
        return torch.from_numpy(result[0].copy())


def openvino_tower(
    tower: torch.nn.Module, example: torch.Tensor, threads: int
) -> OpenVinoTower | None:
    """Convert a tower; None, with a warning, where that fails or would change embeddings."""
    try:
        converted = OpenVinoTower(tower, example, threads)
        with torch.inference_mode():
            given, expected = converted(example), tower(example)
    except Exception as error:  # the converter raises its own for each layer that it lacks
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        warnings.warn(f"OpenVINO cannot run this encoder ({first_line[:200]})", stacklevel=2)
        return None
    if float(torch.cosine_similarity(given, expected).min()) < _LEAST_COSINE:
        warnings.warn("OpenVINO changes this encoder's embeddings and is not used", stacklevel=2)
        return None
    return converted
