"""Training examples: phrases, the images that they were said of, and the boxes that they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from ..core.phrases import Phrases
from ..core.types import RowKey
from ..storage.region_store import RegionStore
from .batch import ImageBatch, RegionTensors

__all__ = ["Examples", "RegionSource", "StreamedRegions", "split_by_image"]


class RegionSource(Protocol):
    """Gives regions of numbered images: from memory or from the shards."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def batch(self, images: torch.Tensor) -> ImageBatch:
        """Return the regions of `images`, int64 (b,)."""
        ...


class StreamedRegions:
    """Reads regions from the shards whenever a batch asks for them.

    Parameters
    ----------
    store : RegionStore
        Reads them.
    keys : sequence of (shard, row)
        Image i lies at ``keys[i]``.
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
        places = torch.arange(len(images), device=self._device)
        return RegionTensors(table, self._device).batch(places)


@dataclass(frozen=True)
class Examples:
    """e phrases said of images, with the boxes that they mean.

    Parameters
    ----------
    phrases : Phrases
        Each different one once.
    phrase : int64 array of shape (e,)
        Which phrase.
    mirrored : int64 array of shape (e,)
        What the phrase is in the mirrored image: left for right.
    image : int64 array of shape (e,)
        Which image of the region source.
    boxes : float32 array of shape (e, 4)
        Corners as fractions of the image's width and height.
    """

    phrases: Phrases
    phrase: npt.NDArray[np.int64]
    mirrored: npt.NDArray[np.int64]
    image: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.phrase)

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Examples:
        """Return the examples of `rows`."""
        return Examples(
            self.phrases, self.phrase[rows], self.mirrored[rows], self.image[rows], self.boxes[rows]
        )


def split_by_image(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Return the examples of most images, and those of about a `share` of the images."""
    images = np.unique(examples.image)
    count = max(1, round(share * len(images)))
    held = np.random.default_rng(seed).choice(images, count, replace=False)
    inside = np.isin(examples.image, held)
    return examples.take(~inside), examples.take(inside)
