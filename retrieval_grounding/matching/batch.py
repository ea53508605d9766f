"""Image batches: the regions of several images as padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from ..core.groups import member_label
from ..core.region_table import RegionTable
from .boxes import mirror_boxes

__all__ = ["ImageBatch", "RegionTensors"]


@dataclass(frozen=True)
class ImageBatch:
    """The regions of m images, padded to n each; the first is the whole image.

    Parameters
    ----------
    embeddings : float tensor of shape (m, n, d)
        Unit length; zeros in padding.
    boxes : float tensor of shape (m, n, 4)
        Corners as fractions of the image's width and height.
    aspects : float tensor of shape (m,)
        Width of the image divided by its height.
    scores : float tensor of shape (m, n)
        Confidence of the detector.
    labels : int64 tensor of shape (m, n)
        Rows of `label_embeddings`.
    colors : float tensor of shape (m, n, 11)
        Shares of the basic colors, 0 to 1.
    present : bool tensor of shape (m, n)
        False in padding.
    label_embeddings : float tensor of shape (k, d)
        The class names, embedded as phrases.
    label_members : int64 tensor of shape (k,)
        For the label of a group, the row of its members' label; for others, their own.
    label_names : sequence of k str
        The class names; empty if they are not known.
    """

    embeddings: torch.Tensor
    boxes: torch.Tensor
    aspects: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    colors: torch.Tensor
    present: torch.Tensor
    label_embeddings: torch.Tensor
    label_members: torch.Tensor
    label_names: Sequence[str] = ()

    @property
    def classes(self) -> torch.Tensor:
        """Labels, and those of their members for groups, int64 (m, n)."""
        return self.label_members[self.labels]

    @property
    def groups(self) -> torch.Tensor:
        """Whether a region is a group of several things, bool (m, n)."""
        return self.classes != self.labels

    def mirrored(self, chosen: torch.Tensor) -> ImageBatch:
        """Return the batch with boxes swapped left and right in the `chosen` images, (m,) bool."""
        boxes = torch.where(chosen[:, None, None], mirror_boxes(self.boxes), self.boxes)
        return replace(self, boxes=boxes)

    def without(self, dropped: torch.Tensor) -> ImageBatch:
        """Return the batch with the `dropped` regions, (m, n) bool, turned into padding."""
        return replace(self, present=self.present & ~dropped)


class RegionTensors:
    """A region table on a device, from which batches are cut.

    Parameters
    ----------
    regions : RegionTable
        The regions of m images.
    device : str or torch.device
        Where the tensors are kept.

    Attributes
    ----------
    counts, single : int64 arrays of shape (m,)
        How many regions each image has, and how many of them are single things, on the host.
    label_names : sequence of k str
        The class names.
    """

    def __init__(self, regions: RegionTable, device: str | torch.device) -> None:
        def tensor(array: npt.NDArray[np.generic]) -> torch.Tensor:
            return torch.from_numpy(np.array(array)).to(device)  # a copy: shards are read-only

        def with_padding_row(column: npt.NDArray[np.generic]) -> torch.Tensor:
            """Append a row of zeros, which batches use as padding."""
            padding = np.zeros_like(column[:1])
            return torch.from_numpy(np.concatenate([column, padding])).to(device)

        whole_images = regions.boxes[regions.offsets[:-1]]
        sides = (whole_images[:, 2:] - whole_images[:, :2]).astype(np.float32)
        counts = np.diff(regions.offsets)
        members = _member_codes(regions.label_names)
        single = members[regions.labels] == regions.labels
        single[regions.offsets[:-1]] = False
        self.counts = counts
        self.single = np.add.reduceat(single.astype(np.int64), regions.offsets[:-1])
        scale = np.repeat(np.tile(sides, 2), counts, axis=0)
        self._embeddings = with_padding_row(regions.embeddings)
        self._boxes = with_padding_row(regions.boxes / scale)
        self._scores = with_padding_row(regions.scores)
        self._labels = with_padding_row(regions.labels.astype(np.int64))
        self._colors = with_padding_row(regions.colors)
        self._aspects = tensor(sides[:, 0] / sides[:, 1])
        self._offsets = tensor(regions.offsets.astype(np.int64))
        self._label_embeddings = tensor(regions.label_embeddings)
        self.label_names = regions.label_names
        self._label_members = tensor(members)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._aspects)

    def batch(self, images: torch.Tensor, longest: int | None = None) -> ImageBatch:
        """Return the regions of `images`, int64 (b,), padded to `longest`.

        Without it, they are padded to the longest of them, which waits for a GPU.
        """
        starts, ends = self._offsets[images], self._offsets[images + 1]
        if longest is None:
            longest = int((ends - starts).max())
        positions = torch.arange(longest, device=starts.device)
        rows = starts[:, None] + positions
        present = rows < ends[:, None]
        padding_row = len(self._boxes) - 1
        rows = torch.where(present, rows, padding_row).flatten()

        def take(column: torch.Tensor) -> torch.Tensor:
            return column.index_select(0, rows).view(*present.shape, *column.shape[1:])

        return ImageBatch(
            embeddings=take(self._embeddings).float(),
            boxes=take(self._boxes),
            aspects=self._aspects[images],
            scores=take(self._scores),
            labels=take(self._labels),
            colors=take(self._colors).float() / 255,
            present=present,
            label_embeddings=self._label_embeddings,
            label_members=self._label_members,
            label_names=self.label_names,
        )


def _member_codes(names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return for each label its number or, if it is a group's, that of its members' label."""
    codes = {name: code for code, name in enumerate(names)}
    members = [codes.get(member_label(name), code) for code, name in enumerate(names)]
    return np.array(members, np.int64)
