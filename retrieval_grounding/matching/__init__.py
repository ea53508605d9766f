"""Matchers: how well each region of an image fits a phrase."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..tables import Phrases, RegionTable

__all__ = ["CosineMatcher", "Matcher"]


class Matcher(Protocol):
    """Anything that scores regions for phrases."""

    def score(self, phrases: Phrases, regions: RegionTable) -> npt.NDArray[np.float32]:
        """Return scores (p, n) of all n regions for p phrases; higher fits better.

        A region's score may depend on the other regions of its image, on nothing else.
        """
        ...


class CosineMatcher:
    """Scores a region by the cosine of its embedding and the phrase's."""

    def score(self, phrases: Phrases, regions: RegionTable) -> npt.NDArray[np.float32]:
        """Return cosines, (p, n); see :class:`Matcher`."""
        cosines: npt.NDArray[np.float32] = (
            phrases.embeddings @ regions.embeddings.astype(np.float32).T
        )
        return cosines
