"""The image pass of the residual network: what it computes of regions before it sees a phrase.

For a search, it is kept in a form that is small and that needs no padding: 280 bytes a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["ORDERS", "PLACES", "ImagePass", "join_images"]


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


def join_images(images: Sequence[tuple[ImagePass, slice]]) -> ImagePass:
    """Return the passes of several images as one.

    Parameters
    ----------
    images : sequence of (ImagePass, slice)
        Each is the pass of some images, and the rows of one of them.
    """
    duplicates, ends, firsts = [], [], []
    before = 0
    for known, rows in images:
        own = known.duplicate_ends[rows]
        first = known.duplicate_ends.item(rows.start - 1) if rows.start else 0
        last = own.item(-1)
        duplicates.append(known.duplicates[first:last])
        ends.append(own)
        firsts.append(before - first)
        before += last - first
    counts = [rows.stop - rows.start for _, rows in images]
    return ImagePass(
        np.concatenate([known.units[rows] for known, rows in images]),
        np.concatenate([known.places[rows] for known, rows in images]),
        np.concatenate([known.counted[rows] for known, rows in images]),
        np.concatenate(duplicates),
        np.concatenate(ends) + np.repeat(firsts, counts),
    )
