"""Matchers: how well each region of an image fits a phrase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["CosineMatcher", "ImageRegions", "Matcher"]


@dataclass(frozen=True)
class ImageRegions:
    """The regions of several images, one after the other: what a matcher sees.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit length.
    boxes : array of shape (n, 4)
        Corners in pixels.
    scores : array of shape (n,)
        Confidence of the detector.
    labels : list of n str
        Class names of the detector.
    offsets : int64 array of shape (images + 1,)
        Rows ``offsets[i]:offsets[i + 1]`` belong to image i; the first is the whole image.
    """

    embeddings: npt.NDArray[np.floating]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: list[str]
    offsets: npt.NDArray[np.int64]


class Matcher(Protocol):
    """Anything that scores regions for phrases."""

    def score(
        self, phrases: npt.NDArray[np.float32], regions: ImageRegions
    ) -> npt.NDArray[np.float32]:
        """Return scores (p, n) of all n regions for p embedded phrases; higher fits better.

        A region's score may depend on the other regions of its image, on nothing else.
        """
        ...


class CosineMatcher:
    """Scores a region by the cosine of its embedding and the phrase's."""

    def score(
        self, phrases: npt.NDArray[np.float32], regions: ImageRegions
    ) -> npt.NDArray[np.float32]:
        """Return cosines, (p, n); see :class:`Matcher`."""
        cosines: npt.NDArray[np.float32] = phrases @ regions.embeddings.astype(np.float32).T
        return cosines
