"""Candidate images as flat tensors, without padding: what one phrase is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ..core.region_table import RegionTable
from .image_pass import ORDERS, ImagePass

__all__ = ["FlatImages"]


@dataclass(frozen=True)
class FlatImages:
    """The n regions of m images, image by image, and what the network knows of them already.

    Parameters
    ----------
    embeddings : float tensor of shape (n, d)
    boxes : float tensor of shape (n, 4)
        Corners as fractions of the image's width and height.
    labels : int64 tensor of shape (n,)
    colors : uint8 array of shape (n, 11)
    label_embeddings : float tensor of shape (k, d)
        As in :class:`.batch.ImageBatch`.
    offsets : int64 array of shape (m + 1,)
        As in :class:`.RegionTable`.
    starts, counts : int64 tensors of shape (m,)
        The first region of each image, and how many it has.
    image : int64 tensor of shape (n,)
        The image of each region.
    units : float16 tensor of shape (n, 2 · width)
    counted : float tensor of shape (n,)
        As in :class:`.image_pass.ImagePass`.
    ordered : int64 tensor of shape (ORDERS, n)
        Rows, sorted within each image in each order.
    before, upto : int64 tensors of shape (ORDERS, n)
        The row in `ordered` of the first region that comes with a region, and of the first that
        comes after it.
    duplicates : int64 tensor of shape (d,)
        Rows of the regions that are the same thing as a region, region by region.
    duplicate_owners : int64 tensor of shape (d,)
        Rows of those regions.
    duplicate_ends : int64 tensor of shape (n + 1,)
        Where the duplicates of each region begin, and the last ones end.
    """

    embeddings: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor
    colors: npt.NDArray[np.uint8]
    label_embeddings: torch.Tensor
    offsets: npt.NDArray[np.int64]
    starts: torch.Tensor
    counts: torch.Tensor
    image: torch.Tensor
    units: torch.Tensor
    counted: torch.Tensor
    ordered: torch.Tensor
    before: torch.Tensor
    upto: torch.Tensor
    duplicates: torch.Tensor
    duplicate_owners: torch.Tensor
    duplicate_ends: torch.Tensor

    @classmethod
    def of(cls, regions: RegionTable, known: ImagePass) -> FlatImages:
        """Return the images of a table, whose image pass is `known`."""
        offsets, count = regions.offsets, len(regions)
        counts = np.diff(offsets)
        images = np.repeat(np.arange(len(counts)), counts)
        firsts = offsets[images]
        whole = regions.boxes[offsets[:-1]]
        sides = np.tile((whole[:, 2:] - whole[:, :2]).astype(np.float32), 2)
        places = torch.from_numpy(known.places.T.astype(np.int64) + firsts)
        ends = np.concatenate([[0], known.duplicate_ends])
        owners = np.repeat(np.arange(count), np.diff(ends))
        return cls(
            embeddings=torch.from_numpy(regions.embeddings).float(),
            boxes=torch.from_numpy(regions.boxes / sides[images]),
            labels=torch.from_numpy(regions.labels),
            colors=regions.colors,
            label_embeddings=torch.from_numpy(regions.label_embeddings),
            offsets=offsets,
            starts=torch.from_numpy(offsets[:-1]),
            counts=torch.from_numpy(counts),
            image=torch.from_numpy(images),
            units=torch.from_numpy(known.units),
            counted=torch.from_numpy(known.counted),
            ordered=places[:ORDERS],
            before=places[ORDERS : 2 * ORDERS],
            upto=places[2 * ORDERS :],
            duplicates=torch.from_numpy(known.duplicates + firsts[owners]),
            duplicate_owners=torch.from_numpy(owners),
            duplicate_ends=torch.from_numpy(ends),
        )

    def best(self, values: torch.Tensor) -> torch.Tensor:
        """Return the largest of each image's `values`, (..., n), for each of its regions."""
        found = np.maximum.reduceat(values.numpy(), self.offsets[:-1], axis=-1)
        return torch.from_numpy(found).index_select(-1, self.image)
