"""Image towers on NVIDIA GPUs: in which precision and layout they run."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from .batch_size import is_out_of_memory
from .fixed_batches import FixedBatches

if TYPE_CHECKING:
    import torch

__all__ = ["tower_on_gpu"]

_BATCHES = (64, 256)
_LEAST_COSINE = 0.999
_FEW_CONVOLUTIONS = 3


def tower_on_gpu(network: Any, example: torch.Tensor, device: str) -> FixedBatches:
    """Return what runs a tower on a GPU.

    Transformers run in float16. Their weights are converted if they then give the same for an
    example; otherwise PyTorch converts where it is safe (autocast), which costs a conversion of all
    weights for each batch. Convolutional networks run in float32, whose products the GPU rounds to
    TF32: for float16, and for channels last, cuDNN compiles kernels for each shape when it first
    meets it, which takes seconds.

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

    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in network.modules())
    if convolutions > _FEW_CONVOLUTIONS:
        whole = copy.deepcopy(network).to(device)
        return FixedBatches(lambda: whole, _BATCHES)
    with torch.no_grad():
        expected = network(example)
    halved = copy.deepcopy(network).half().to(device)
    tower = FixedBatches(lambda: lambda pixels: halved(pixels.half()), _BATCHES)
    try:
        found = tower(example.to(device)).float().cpu()
    except RuntimeError as error:  # of a layer that mixes precisions
        if is_out_of_memory(error):
            raise
        found = torch.zeros_like(expected)
    if float(torch.cosine_similarity(found, expected).min()) >= _LEAST_COSINE:
        return tower
    plain = copy.deepcopy(network).to(device)

    def with_autocast(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(pixels.device.type, torch.float16, cache_enabled=False):
            embeddings: torch.Tensor = plain(pixels)
        return embeddings

    return FixedBatches(lambda: with_autocast, _BATCHES)
