"""Towers in half precision, on GPUs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .batch_size import is_out_of_memory

if TYPE_CHECKING:
    import torch

__all__ = ["in_half_precision"]

_LEAST_COSINE = 0.999


def in_half_precision(
    network: Any, example: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that runs a network in float16.

    Its weights are converted if it then gives the same for an example. Otherwise they stay as they
    are, and PyTorch converts where it is safe (autocast), which costs a conversion of all weights
    for each batch.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, on a GPU.
    example : tensor
        An input, on the GPU.
    """
    import torch

    halved = copy.deepcopy(network).half()
    with torch.no_grad():
        expected = network(example).float()
        try:
            cosine = torch.cosine_similarity(halved(example.half()).float(), expected).min()
        except RuntimeError as error:  # of a layer that mixes precisions
            if is_out_of_memory(error):
                raise
            cosine = torch.tensor(0.0)

    def with_half_weights(pixels: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = halved(pixels.half())
        return embeddings

    def with_autocast(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(example.device.type, torch.float16):
            embeddings: torch.Tensor = network(pixels)
        return embeddings

    return with_half_weights if float(cosine) >= _LEAST_COSINE else with_autocast
