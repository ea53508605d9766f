"""Towers in half precision, on GPUs."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from .batch_size import is_out_of_memory
from .fixed_batches import FixedBatches

if TYPE_CHECKING:
    import torch

__all__ = ["half_tower"]

_BATCHES = (64, 256)
_LEAST_COSINE = 0.999


def half_tower(network: Any, example: torch.Tensor, device: str) -> FixedBatches:
    """Return a tower that runs in float16 on a GPU.

    Its weights are converted if it then gives the same for an example. Otherwise they stay as they
    are, and PyTorch converts where it is safe (autocast), which costs a conversion of all weights
    for each batch.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, on the CPU; not changed.
    example : tensor
        An input (1, 3, size, size).
    device : str
        Where the tower shall run.
    """
    import torch

    with torch.no_grad():
        expected = network(example)
    halved = copy.deepcopy(network).half().to(device)
    tower = FixedBatches(lambda pixels: halved(pixels.half()), _BATCHES)
    try:
        found = tower(example.to(device)).float().cpu()
    except RuntimeError as error:  # of a layer that mixes precisions
        if is_out_of_memory(error):
            raise
        found = torch.zeros_like(expected)
    if float(torch.cosine_similarity(found, expected).min()) >= _LEAST_COSINE:
        return tower
    whole = copy.deepcopy(network).to(device)

    def with_autocast(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(pixels.device.type, torch.float16):
            embeddings: torch.Tensor = whole(pixels)
        return embeddings

    return FixedBatches(with_autocast, _BATCHES)
