"""Exact search on GPUs, if FAISS's package for GPUs is installed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from .exact import ShardVectors
from .faiss_index import FaissIndex, import_faiss

__all__ = ["combine_parts", "copy_to_gpus", "gpu_numbers"]


_LOGGER = logging.getLogger(__name__)

_MAX_SHARE_OF_MEMORY = 0.6
_MOST_FOUND = 2048
"""FAISS cannot select more on a GPU."""


def gpu_numbers(device: str) -> list[int]:
    """Return the GPUs that FAISS can search on: N for ``"cuda:N"``, all for ``"cuda"``.

    The list is empty for ``"cpu"``, and if FAISS is the package for CPUs.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return []
    faiss = import_faiss()
    if not hasattr(faiss, "StandardGpuResources"):
        return []
    return [int(number)] if number else list(range(faiss.get_num_gpus()))


def copy_to_gpus(vectors: ShardVectors, dimension: int, device: str) -> FaissIndex | None:
    """Copy all regions to the GPUs as float16, for exact search there.

    GPUs read so fast that they need no approximation: 10 million regions of 256 dimensions are
    5 GB, which takes a few milliseconds.

    Returns
    -------
    FaissIndex or None
        None if FAISS can use no GPU, or there is not enough memory.
    """
    numbers = gpu_numbers(device)
    if not numbers:
        return None
    needed = 2 * dimension * len(vectors)
    available = int(_free_memory(numbers) * _MAX_SHARE_OF_MEMORY)
    if needed > available:
        _LOGGER.info(
            "searching on the CPU: the vectors need %d MiB of GPU memory, and %d MiB are available",
            needed >> 20,
            available >> 20,
        )
        return None
    faiss = import_faiss()
    # Empty indexes are copied and then filled in blocks, so main memory never holds all rows.
    empty = faiss.IndexFlatIP(dimension)
    options = faiss.GpuClonerOptions()
    options.useFloat16 = True
    resources = [faiss.StandardGpuResources() for _ in numbers]
    parts = [
        faiss.index_cpu_to_gpu(resource, number, empty, options)
        for resource, number in zip(resources, numbers, strict=True)
    ]
    index = FaissIndex("flat", combine_parts(parts, dimension))
    index.keep_alive = (*resources, *parts)
    index.rounds = True  # queries are converted to float16, too
    index.most = _MOST_FOUND
    for embeddings, ids in vectors.blocks():
        index.add(embeddings, ids)
    return index


def combine_parts(parts: Sequence[Any], dimension: int) -> Any:
    """Return one FAISS index with region ids that distributes its vectors over `parts`."""
    faiss = import_faiss()
    with_ids = [faiss.IndexIDMap(part) for part in parts]
    if len(with_ids) == 1:
        return with_ids[0]
    # Not successive ids: every part has its own, and each block is distributed over all parts.
    combined = faiss.IndexShards(dimension, True, False)
    for part in with_ids:
        combined.add_shard(part)
    return combined


def _free_memory(numbers: Sequence[int]) -> int:
    import torch

    return sum(int(torch.cuda.mem_get_info(number)[0]) for number in numbers)
