"""The definition of recall that all engines share; needs only NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

_REGIONS_PER_IMAGE = 16


def first_images(rows: Rows, images: Rows, count: int) -> list[int]:
    """Return the images of the best regions, each once, at most `count`, best first.

    Parameters
    ----------
    rows : int64 array of shape (k,)
        Regions, best first, padded with negative numbers.
    images : int64 array of shape (n,)
        Number of each region's image.
    count : int
        Images to return.
    """
    return list(dict.fromkeys(images[rows[rows >= 0]].tolist()))[:count]


def exact_images(
    vectors: npt.NDArray[np.float32], images: Rows, phrases: npt.NDArray[np.float32], count: int
) -> Rows:
    """Return the images of the exactly nearest regions, (p, count), padded with -1."""
    truth = np.full((len(phrases), count), -1, np.int64)
    enough = min(_REGIONS_PER_IMAGE * count, len(vectors))
    for number, phrase in enumerate(phrases):
        scores = vectors @ phrase
        nearest = np.argpartition(-scores, enough - 1)[:enough]
        found = first_images(nearest[np.argsort(-scores[nearest])], images, count)
        if len(found) < count:
            found = first_images(np.argsort(-scores), images, count)
        truth[number, : len(found)] = found
    return truth


def recall(found: Sequence[Rows], images: Rows, truth: Rows, count: int) -> float:
    """Return the mean share of the first `count` exact images among the first `count` found.

    Parameters
    ----------
    found : sequence of int64 arrays
        Regions that an engine found for each phrase, best first.
    images : int64 array of shape (n,)
        Number of each region's image.
    truth : int64 array of shape (p, at least count)
        From :func:`exact_images`.
    count : int
        Images to compare.
    """
    shares = []
    for rows, exact in zip(found, truth[:, :count], strict=True):
        wanted = set(exact[exact >= 0].tolist())
        shares.append(len(wanted.intersection(first_images(rows, images, count))) / len(wanted))
    return float(np.mean(shares))
