"""The regions of several images in one table, which is what matchers see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

__all__ = ["RegionTable"]


@dataclass(frozen=True)
class RegionTable:
    """The regions of several images, image by image: what a matcher scores.

    Parameters
    ----------
    embeddings : floating array of shape (n, d)
        Unit length.
    boxes : float32 array of shape (n, 4)
        Corners in pixels.
    scores : float32 array of shape (n,)
        Confidence of the detector.
    labels : int64 array of shape (n,)
        Class of each region: an index into `label_names` and `label_embeddings`.
    colors : uint8 array of shape (n, 11)
        Shares of the basic colors, see :func:`retrieval_grounding.core.colors.region_colors`.
    offsets : int64 array of shape (images + 1,)
        Rows ``offsets[i]:offsets[i + 1]`` belong to image i; the first of them is the whole image.
    label_names : sequence of k str
        The detector's class names.
    label_embeddings : float32 array of shape (k, d)
        The class names embedded as phrases; zeros for the label of whole images.
    """

    embeddings: npt.NDArray[np.floating]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    colors: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    label_names: Sequence[str]
    label_embeddings: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.boxes)

    def label(self, row: int) -> str:
        """Return the class name of a region."""
        return self.label_names[int(self.labels[row])]

    def image(self, number: int) -> slice:
        """Return the rows of image `number`."""
        return slice(int(self.offsets[number]), int(self.offsets[number + 1]))

    def rows(self, images: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the rows of several images, image by image.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> table = SimpleNamespace(offsets=np.array([0, 2, 3, 6]))
        >>> RegionTable.rows(table, np.array([2, 0])).tolist()
        [3, 4, 5, 0, 1]
        """
        starts, counts = self.offsets[images], self.offsets[images + 1] - self.offsets[images]
        before = np.cumsum(counts) - counts
        return np.repeat(starts - before, counts) + np.arange(counts.sum())

    def images(self, start: int, stop: int) -> RegionTable:
        """Return a table of images `start` to `stop`, at least one, without copying regions."""
        offsets = self.offsets[start : stop + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        return replace(
            self,
            embeddings=self.embeddings[rows],
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            colors=self.colors[rows],
            offsets=offsets - offsets[0],
        )

    def take_images(self, images: npt.NDArray[np.int64]) -> RegionTable:
        """Return a table of some images, with copies of their regions."""
        rows = self.rows(images)
        counts = self.offsets[images + 1] - self.offsets[images]
        return replace(
            self,
            embeddings=self.embeddings[rows],
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            colors=self.colors[rows],
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        )

    def of_one_image(self, rows: npt.NDArray[np.generic] | slice) -> RegionTable:
        """Return a table of `rows`, all of one image and starting with its whole image."""
        boxes = self.boxes[rows]
        return replace(
            self,
            embeddings=self.embeddings[rows],
            boxes=boxes,
            scores=self.scores[rows],
            labels=self.labels[rows],
            colors=self.colors[rows],
            offsets=np.array([0, len(boxes)], np.int64),
        )
