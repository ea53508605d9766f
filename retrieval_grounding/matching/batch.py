"""Images side by side: the regions of several images as padded tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from ..core.region_table import RegionTable

__all__ = ["ImageBatch", "RegionTensors"]


@dataclass(frozen=True)
class ImageBatch:
    """The regions of m images, padded to n each; the first is the whole image.

    Parameters
    ----------
    embeddings : float tensor of shape (m, n, d)
        Unit length; zeros where there is no region.
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
        Whether there is a region.
    label_embeddings : float tensor of shape (k, d)
        The class names as phrases.
    """

    embeddings: torch.Tensor
    boxes: torch.Tensor
    aspects: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    colors: torch.Tensor
    present: torch.Tensor
    label_embeddings: torch.Tensor

    def mirrored(self, chosen: torch.Tensor) -> ImageBatch:
        """Return the batch with boxes swapped left and right in the `chosen` images, (m,) bool."""
        flipped = self.boxes[..., [2, 1, 0, 3]] * self.boxes.new_tensor([-1, 1, -1, 1])
        flipped = flipped + self.boxes.new_tensor([1, 0, 1, 0])
        return replace(self, boxes=torch.where(chosen[:, None, None], flipped, self.boxes))

    def without(self, dropped: torch.Tensor) -> ImageBatch:
        """Return the batch without the `dropped` regions, (m, n) bool; their rows stay empty."""
        return replace(self, present=self.present & ~dropped)


class RegionTensors:
    """A region table on a device.

    Parameters
    ----------
    regions : RegionTable
        The regions of m images.
    device : str or torch.device
        Where the tensors lie.
    """

    def __init__(self, regions: RegionTable, device: str | torch.device) -> None:
        def moved(array: npt.NDArray[np.generic]) -> torch.Tensor:
            return torch.from_numpy(np.array(array)).to(device)  # a copy: shards are read-only

        def ended(column: npt.NDArray[np.generic]) -> torch.Tensor:
            """Return a column with a row of zeros after it, for where there is no region."""
            return torch.from_numpy(np.concatenate([column, np.zeros_like(column[:1])])).to(device)

        whole = regions.boxes[regions.offsets[:-1]]
        sizes = (whole[:, 2:] - whole[:, :2]).astype(np.float32)
        counts = np.diff(regions.offsets)
        scale = np.repeat(np.tile(sizes, 2), counts, axis=0)
        self._embeddings = ended(regions.embeddings)
        self._boxes = ended(regions.boxes / scale)
        self._scores = ended(regions.scores)
        self._labels = ended(regions.labels.astype(np.int64))
        self._colors = ended(regions.colors)
        self._aspects = moved(sizes[:, 0] / sizes[:, 1])
        self._offsets = moved(regions.offsets.astype(np.int64))
        self._label_embeddings = moved(regions.label_embeddings)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._aspects)

    def batch(self, images: torch.Tensor) -> ImageBatch:
        """Return the regions of `images`, int64 (b,), padded to the longest of them."""
        starts, ends = self._offsets[images], self._offsets[images + 1]
        places = torch.arange(int((ends - starts).max()), device=starts.device)
        rows = starts[:, None] + places
        present = rows < ends[:, None]
        rows = torch.where(present, rows, len(self._boxes) - 1).flatten()

        def taken(column: torch.Tensor) -> torch.Tensor:
            return column.index_select(0, rows).view(*present.shape, *column.shape[1:])

        return ImageBatch(
            embeddings=taken(self._embeddings).float(),
            boxes=taken(self._boxes),
            aspects=self._aspects[images],
            scores=taken(self._scores),
            labels=taken(self._labels),
            colors=taken(self._colors).float() / 255,
            present=present,
            label_embeddings=self._label_embeddings,
        )
