"""Searching on GPUs, where FAISS's package for them is installed and a GPU is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .exact import StoredVectors
from .faiss_index import FaissIndex, import_faiss

__all__ = ["gpu_numbers", "gpu_search", "search_place", "spread_index"]


_SHARE_OF_MEMORY = 0.6


def gpu_numbers(device: str) -> list[int]:
    """Return the GPUs that FAISS can search on: that of ``"cuda:N"``, or all for ``"cuda"``.

    None are returned for ``"cpu"``, and where FAISS is the package for CPUs.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return []
    faiss = import_faiss()
    if not hasattr(faiss, "StandardGpuResources"):
        return []
    return [int(number)] if number else list(range(faiss.get_num_gpus()))


def search_place(device: str) -> str:
    """Say where vectors are searched, for people."""
    numbers = gpu_numbers(device)
    if not numbers:
        return "cpu"
    return f"cuda ({len(numbers)} GPU{'s' * (len(numbers) > 1)}, exactly, while memory lasts)"


def gpu_search(stored: StoredVectors, dimension: int, device: str) -> FaissIndex | None:
    """Copy all regions to the GPUs as float16, to be compared exactly there.

    A GPU reads so fast that nothing approximate is needed: 10 million regions of 256 dimensions
    are 5 GB, which it reads in a few milliseconds.

    Returns
    -------
    FaissIndex or None
        None if there is no GPU that FAISS can use, or not enough memory on it.
    """
    numbers = gpu_numbers(device)
    if not numbers or 2 * dimension * len(stored) > _free_memory(numbers) * _SHARE_OF_MEMORY:
        return None
    faiss = import_faiss()
    # Copies of an empty index: the rows are then sent block by block, never all at once.
    empty = faiss.IndexFlatIP(dimension)
    options = faiss.GpuClonerOptions()
    options.useFloat16 = True
    resources = [faiss.StandardGpuResources() for _ in numbers]
    parts = [
        faiss.index_cpu_to_gpu(own, number, empty, options)
        for own, number in zip(resources, numbers, strict=True)
    ]
    index = FaissIndex("flat", spread_index(parts, dimension))
    index.keep_alive = (*resources, *parts)
    for embeddings, ids in stored.blocks():
        index.add(embeddings, ids)
    return index


def spread_index(parts: Sequence[Any], dimension: int) -> Any:
    """Return one FAISS index with region ids, whose vectors are dealt out to `parts`."""
    faiss = import_faiss()
    named = [faiss.IndexIDMap(part) for part in parts]
    if len(named) == 1:
        return named[0]
    # Not successive: every part has ids of its own, and each block is dealt out anew.
    together = faiss.IndexShards(dimension, True, False)
    for part in named:
        together.add_shard(part)
    return together


def _free_memory(numbers: Sequence[int]) -> int:
    import torch

    return sum(int(torch.cuda.mem_get_info(number)[0]) for number in numbers)
