"""The image pass of the residual network: what it computes of regions before it sees a phrase.

For a search, it is kept in a form that is small and that needs no padding: 280 bytes a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["ORDERS", "PLACES", "ImagePass", "join_passes"]


ORDERS = 4
"""In which regions of an image are sorted: from the left, from the top, by size, by lower edge."""

PLACES = 3 * ORDERS
"""Values of `ImagePass.places` for a region."""


class ImagePass(NamedTuple):
    """What does not depend on the phrase, for the n regions of some images, image by image.

    Parameters
    ----------
    units : float16 array of shape (n, 2 · width)
        `regions` and `bilinear` of :class:`.residual_model.EncodedImages`, side by side.
    places : uint16 array of shape (n, PLACES)
        The regions of an image, sorted in each order; then for each order, how many regions come
        before a region; then how many come before it or with it.
    counted : float32 array of shape (n,)
        `counted` of the same class.
    duplicates : uint16 array of shape (d,)
        Numbers, within the image, of the regions that are the same thing as a region, itself
        included; region by region.
    duplicate_ends : int64 array of shape (n,)
        Where the duplicates of each region end.
    """

    units: npt.NDArray[np.float16]
    places: npt.NDArray[np.uint16]
    counted: npt.NDArray[np.float32]
    duplicates: npt.NDArray[np.uint16]
    duplicate_ends: npt.NDArray[np.int64]

    def image(self, rows: slice) -> ImagePass:
        """Return the pass of the image whose regions are `rows`."""
        start, stop = rows.start, rows.stop
        first = self.duplicate_ends.item(start - 1) if start else 0
        ends = self.duplicate_ends[start:stop] - first
        return ImagePass(
            self.units[start:stop],
            self.places[start:stop],
            self.counted[start:stop],
            self.duplicates[first : first + ends.item(-1)],
            ends,
        )


def join_passes(parts: Sequence[ImagePass]) -> ImagePass:
    """Return the passes of several images as one."""
    counts = [len(part.duplicates) for part in parts]
    before = np.cumsum([0, *counts[:-1]])
    ends = np.concatenate([part.duplicate_ends for part in parts])
    return ImagePass(
        np.concatenate([part.units for part in parts]),
        np.concatenate([part.places for part in parts]),
        np.concatenate([part.counted for part in parts]),
        np.concatenate([part.duplicates for part in parts]),
        ends + np.repeat(before, [len(part.counted) for part in parts]),
    )
