"""Groups of images for scoring: similar region counts, equal work."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["group_images"]


_DIVIDE_FROM = 32  # images; fewer are not worth dividing
_PAIRS_PER_REGION = 32  # work on one region costs as much as work on this many pairs of regions
_MAX_WORK = 100_000  # pairs of regions in a group


def group_images(counts: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Divide images into groups of similar region counts and equal work.

    So there is little padding, every thread gets its share, and the features of pairs of regions
    stay small: allocating and freeing large ones costs more than the arithmetic.

    Parameters
    ----------
    counts : int64 array of shape (m,)
        Number of regions of each image; m is at least 1.

    Returns
    -------
    list of int64 arrays
        Numbers of images; each image is in one group.

    Examples
    --------
    >>> [group.tolist() for group in group_images(np.array([5, 2, 4]))]
    [[1, 2, 0]]
    """
    order = np.argsort(counts, kind="stable")
    ordered = counts[order]
    work = np.cumsum(ordered * (ordered + _PAIRS_PER_REGION))
    total = int(work[-1])
    groups = max(2 if len(order) >= _DIVIDE_FROM else 1, math.ceil(total / _MAX_WORK))
    cuts = np.searchsorted(work, total * np.arange(1, groups) / groups)
    return [group for group in np.split(order, cuts) if len(group)]
