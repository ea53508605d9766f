"""Training examples: phrases, their images, and the boxes of their targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases

__all__ = ["COLUMNS", "Examples", "batches_by_image"]


COLUMNS = ("phrase", "mirrored", "image", "boxes", "weight", "generated")
"""The columns of :class:`Examples`, in order."""

_UNSET: Any = None


@dataclass(frozen=True)
class Examples:
    """e phrases about images, with the boxes of their targets.

    Parameters
    ----------
    phrases : Phrases
        Each distinct phrase once.
    phrase : int64 array of shape (e,)
        Row of the phrase in `phrases`.
    mirrored : int64 array of shape (e,)
        Row of the phrase that describes the mirrored image, left for right; -1 if none is known,
        so that the image must not be mirrored.
    image : int64 array of shape (e,)
        Number of the image in the region source.
    boxes : float32 array of shape (e, 4)
        Corners as fractions of the image's width and height; NaN where the box is not known.
    weight : float32 array of shape (e,), optional
        How often an example is met in an epoch, on average; once if left out.
    generated : bool array of shape (e,), optional
        Whether the phrase was made by a program; people wrote all of them if left out.
    """

    phrases: Phrases
    phrase: npt.NDArray[np.int64]
    mirrored: npt.NDArray[np.int64]
    image: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32] = field(default=_UNSET)
    generated: npt.NDArray[np.bool_] = field(default=_UNSET)

    def __post_init__(self) -> None:
        if self.weight is _UNSET:
            object.__setattr__(self, "weight", np.ones(len(self.phrase), np.float32))
        if self.generated is _UNSET:
            object.__setattr__(self, "generated", np.zeros(len(self.phrase), bool))

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.phrase)

    @property
    def located(self) -> npt.NDArray[np.bool_]:
        """Whether the box is known, (e,)."""
        located: npt.NDArray[np.bool_] = np.all(np.isfinite(self.boxes), axis=1)
        return located

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Examples:
        """Return the examples of `rows`."""
        columns = (getattr(self, name)[rows] for name in COLUMNS)
        return Examples(self.phrases, *columns)

    def drawn(self, random: np.random.Generator) -> Examples:
        """Return the examples of one epoch: each as often as its weight says, on average."""
        if (self.weight == 1).all():
            return self
        times = np.floor(self.weight + random.random(len(self))).astype(np.int64)
        return self.take(np.repeat(np.arange(len(self)), times))


def batches_by_image(
    examples: Examples, size: int, random: np.random.Generator | None
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield rows of about `size` examples, with all examples of an image in one batch.

    Images come in random order if `random` is given, else by number.
    """
    by_image = np.argsort(examples.image, kind="stable")
    starts = np.flatnonzero(np.diff(examples.image[by_image])) + 1
    rows_of_images = np.split(by_image, starts)
    order = np.arange(len(rows_of_images))
    if random is not None:
        order = random.permutation(len(rows_of_images))
    batch: list[npt.NDArray[np.int64]] = []
    collected = 0
    for number in order.tolist():
        batch.append(rows_of_images[number])
        collected += len(rows_of_images[number])
        if collected >= size:
            yield np.concatenate(batch)
            batch, collected = [], 0
    if batch:
        yield np.concatenate(batch)
