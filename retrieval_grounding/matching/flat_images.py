"""Candidate images as flat tensors, without padding: what one phrase is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ..core.region_table import RegionTable
from .geometry import measure
from .image_pass import ORDERS, ImagePass

__all__ = ["FlatImages"]


@dataclass(frozen=True)
class FlatImages:
    """The n regions of m images, image by image, and what the network knows of them already.

    Parameters
    ----------
    embeddings : floating tensor of shape (n, d)
    measures : float tensor of shape (MEASURES, n)
        Of boxes in fractions of their image, and labels; see :func:`.geometry.measure`.
    labels : int64 tensor of shape (n,)
    colors : uint8 array of shape (n, 11)
    label_embeddings : float tensor of shape (k, d)
        As in :class:`.batch.ImageBatch`.
    label_known : bool tensor of shape (k,)
        Whether a label has an embedding; that of whole images has none.
    offsets : int64 array of shape (m + 1,)
        As in :class:`.RegionTable`.
    image : int64 array of shape (n,)
        The image of each region.
    units : float16 tensor of shape (n, 2 · width)
    counted : float tensor of shape (n,)
        As in :class:`.image_pass.ImagePass`.
    ordered : int64 array of shape (ORDERS, n)
        Rows, sorted within each image in each order.
    before, upto : int64 arrays of shape (ORDERS, n)
        The column in `ordered` of the first region that comes with a region, and of the first that
        comes after it; as places in a flat array of ORDERS rows of n + 1 running sums.
    owners : int64 tensor of shape (d,)
        Rows of regions of which another is a duplicate.
    duplicates : int64 array of shape (d,)
        Rows of these duplicates.
    signs : float tensor of shape (1 + ORDERS, d)
        1, then for each order: 1 where the duplicate comes first, -1 where it comes last, else 0.
    itself : float tensor of shape (n,)
        1 where a region is the same thing as itself, which all but the smallest are.
    """

    embeddings: torch.Tensor
    measures: torch.Tensor
    labels: torch.Tensor
    colors: npt.NDArray[np.uint8]
    label_embeddings: torch.Tensor
    label_known: torch.Tensor
    offsets: npt.NDArray[np.int64]
    image: npt.NDArray[np.int64]
    units: torch.Tensor
    counted: torch.Tensor
    ordered: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]
    upto: npt.NDArray[np.int64]
    owners: torch.Tensor
    duplicates: npt.NDArray[np.int64]
    signs: torch.Tensor
    itself: torch.Tensor

    @classmethod
    def of(cls, regions: RegionTable, known: ImagePass) -> FlatImages:
        """Return the images of a table, whose image pass is `known`."""
        offsets, count = regions.offsets, len(regions)
        counts = offsets[1:] - offsets[:-1]
        image = np.arange(len(counts)).repeat(counts)
        firsts = offsets.take(image)
        whole = regions.boxes.take(offsets[:-1], 0)
        sides = np.tile(whole[:, 2:] - whole[:, :2], 2).take(image, 0)
        boxes, labels = torch.from_numpy(regions.boxes / sides), torch.from_numpy(regions.labels)
        places = np.add(known.places.T, firsts, dtype=np.int64)
        copies = np.diff(known.duplicate_ends, prepend=0)
        owners = np.repeat(np.arange(count), copies)
        duplicates = known.duplicates + firsts.take(owners)
        different = duplicates != owners
        itself = np.zeros(count, np.float32)
        itself[owners[~different]] = 1
        owners, duplicates = owners[different], duplicates[different]
        before, upto = places[ORDERS : 2 * ORDERS], places[2 * ORDERS :]
        signs = np.ones((1 + ORDERS, len(owners)), np.float32)
        np.sign(before.take(owners, 1) - before.take(duplicates, 1), out=signs[1:])
        running = np.arange(ORDERS)[:, None] * (count + 1)
        return cls(
            embeddings=torch.from_numpy(regions.embeddings),
            measures=measure(boxes.T, labels),
            labels=labels,
            colors=regions.colors,
            label_embeddings=torch.from_numpy(regions.label_embeddings),
            label_known=torch.from_numpy(regions.label_embeddings.any(1)),
            offsets=offsets,
            image=image,
            units=torch.from_numpy(known.units),
            counted=torch.from_numpy(known.counted),
            ordered=places[:ORDERS],
            before=before + running,
            upto=upto + running,
            owners=torch.from_numpy(owners),
            duplicates=duplicates,
            signs=torch.from_numpy(signs),
            itself=torch.from_numpy(itself),
        )

    def of_images(self, values: npt.NDArray[np.generic]) -> torch.Tensor:
        """Return values of images, (..., m), for each of their regions."""
        return torch.from_numpy(values.take(self.image, -1))

    def best(self, values: torch.Tensor) -> torch.Tensor:
        """Return the largest of each image's `values`, (..., n), for each of its regions."""
        return self.of_images(np.maximum.reduceat(values.numpy(), self.offsets[:-1], axis=-1))

    def padded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows (m, k) of each image, and which of them are padding.

        In its padding stands the last region of an image.
        """
        starts, counts = self.offsets[:-1, None], np.diff(self.offsets)[:, None]
        columns = np.arange(counts.max())
        rows = starts + np.minimum(columns, counts - 1)
        return torch.from_numpy(rows), torch.from_numpy(columns >= counts)
