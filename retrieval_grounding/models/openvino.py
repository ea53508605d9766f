"""Image towers run by OpenVINO if it is installed: twice the crops per second on a CPU."""

from __future__ import annotations

import importlib.util
import logging
import threading
from typing import Any

import torch

from ._quiet import quiet_libraries

__all__ = ["OpenVinoTower", "has_openvino", "openvino_tower"]


_MIN_COSINE = 0.9999

_log = logging.getLogger(__name__)


def has_openvino() -> bool:
    """Return whether OpenVINO is installed, without importing it."""
    return importlib.util.find_spec("openvino") is not None


class OpenVinoTower:
    """A converted tower, which several threads may call at once.

    Parameters
    ----------
    tower : nn.Module
        On the CPU, in evaluation mode; it is not modified.
    example : tensor
        An example input, (n, 3, size, size) float32.
    threads : int
        Number of threads that call it; each gets a core.
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
    """Return a converted tower, or None if that fails or would change embeddings."""
    try:
        converted = OpenVinoTower(tower, example, threads)
        with torch.inference_mode():
            given, expected = converted(example), tower(example)
    except Exception as error:  # each layer that the converter lacks raises its own
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        _log.warning("PyTorch runs the encoder: OpenVINO cannot (%s)", first_line[:200])
        return None
    if float(torch.cosine_similarity(given, expected).min()) < _MIN_COSINE:
        _log.warning("PyTorch runs the encoder: OpenVINO would change its embeddings")
        return None
    return converted
