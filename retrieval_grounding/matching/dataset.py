"""Training examples: phrases, their images, and the boxes of their targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases

__all__ = ["COLUMNS", "PHRASE_COLUMNS", "Examples", "batches_by_image"]


COLUMNS = (
    "phrase", "mirrored", "image", "boxes", "weight", "generated", "contrast", "mirrored_contrast",
)  # fmt: skip
"""The columns of :class:`Examples`, in order."""

PHRASE_COLUMNS = ("phrase", "mirrored", "contrast", "mirrored_contrast")
"""Those that are rows of phrases, or -1."""

_UNSET: Any = None
_OF_AN_IMAGE = 8


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
    contrast, mirrored_contrast : int64 arrays of shape (e,), optional
        Row of a phrase that is false of the target, and of one that is false of it in the mirrored
        image; -1, or left out, if none is known.
    """

    phrases: Phrases
    phrase: npt.NDArray[np.int64]
    mirrored: npt.NDArray[np.int64]
    image: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32] = field(default=_UNSET)
    generated: npt.NDArray[np.bool_] = field(default=_UNSET)
    contrast: npt.NDArray[np.int64] = field(default=_UNSET)
    mirrored_contrast: npt.NDArray[np.int64] = field(default=_UNSET)

    def __post_init__(self) -> None:
        if self.weight is _UNSET:
            object.__setattr__(self, "weight", np.ones(len(self.phrase), np.float32))
        if self.generated is _UNSET:
            object.__setattr__(self, "generated", np.zeros(len(self.phrase), bool))
        for name in ("contrast", "mirrored_contrast"):
            if getattr(self, name) is _UNSET:
                object.__setattr__(self, name, np.full(len(self.phrase), -1, np.int64))

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

    def of_images(self, images: npt.NDArray[np.int64]) -> Examples:
        """Return the examples about some images, which are numbered in the order of `images`.

        Parameters
        ----------
        images : int64 array
            Ascending.
        """
        taken = self.take(np.isin(self.image, images))
        return replace(taken, image=np.searchsorted(images, taken.image))


def batches_by_image(
    examples: Examples, size: int, random: np.random.Generator | None
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield rows of about `size` examples, with up to eight of an image in one batch.

    Each image is read for several examples, and a batch has many images. Images come in random
    order if `random` is given, else by number.
    """
    shuffled = np.arange(len(examples)) if random is None else random.permutation(len(examples))
    by_image = shuffled[np.argsort(examples.image[shuffled], kind="stable")]
    _, first, counts = np.unique(examples.image[by_image], return_index=True, return_counts=True)
    place = np.arange(len(by_image)) - np.repeat(first, counts)
    groups = np.split(by_image, np.flatnonzero(place % _OF_AN_IMAGE == 0)[1:])
    order = np.arange(len(groups)) if random is None else random.permutation(len(groups))
    batch: list[npt.NDArray[np.int64]] = []
    collected = 0
    for number in order.tolist():
        batch.append(groups[number])
        collected += len(groups[number])
        if collected >= size:
            yield np.concatenate(batch)
            batch, collected = [], 0
    if batch:
        yield np.concatenate(batch)
