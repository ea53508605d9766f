"""Where training gets regions from: memory, or the shards batch by batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import psutil
import torch

from ..core.text import counted
from ..core.types import RowKey
from ..storage.region_store import RegionStore
from .batch import ImageBatch, RegionTensors

__all__ = ["RegionSource", "StreamedRegions", "open_regions"]


_log = logging.getLogger(__name__)


class RegionSource(Protocol):
    """Gives the regions of images, which are numbered from 0."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def batch(self, images: torch.Tensor) -> ImageBatch:
        """Return the regions of `images`, int64 (b,)."""
        ...


class StreamedRegions:
    """Reads the regions of each batch from the shards.

    Parameters
    ----------
    store : RegionStore
        Reads them.
    keys : sequence of (shard, row)
        ``keys[i]`` is the address of image i.
    device : str
        Where batches go.
    """

    def __init__(self, store: RegionStore, keys: Sequence[RowKey], device: str) -> None:
        self._store = store
        self._keys = keys
        self._device = device

    def __len__(self) -> int:
        return len(self._keys)

    def batch(self, images: torch.Tensor) -> ImageBatch:
        """Return the regions of `images`, int64 (b,)."""
        table = self._store.gather([self._keys[number] for number in images.tolist()])
        numbers = torch.arange(len(images), device=self._device)
        return RegionTensors(table, self._device).batch(numbers)


def open_regions(
    store: RegionStore, keys: Sequence[RowKey], device: str
) -> RegionTensors | StreamedRegions:
    """Return the regions of `keys`, resident if half of the device's free memory holds them."""
    size, free = store.bytes_of(keys), _free_memory(device)
    if size < free / 2:
        return RegionTensors(store.gather(keys), device)
    _log.info(
        "streaming the regions of %s from the shards: they take %d MB, more than half of the %d MB "
        "free on %s",
        counted(len(keys), "image"),
        size // 2**20,
        free // 2**20,
        device,
    )
    return StreamedRegions(store, keys, device)


def _free_memory(device: str) -> int:
    """Return the bytes of memory that are free on a device."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
