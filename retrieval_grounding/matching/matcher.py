"""The ``Matcher`` protocol, and the matcher that needs no training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from .calibration import Calibration

__all__ = ["CosineMatcher", "Matcher"]


class Matcher(Protocol):
    """Anything that scores regions for phrases."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    def score(self, phrases: Phrases, regions: RegionTable) -> npt.NDArray[np.float32]:
        """Return scores (p, n) of all n regions for p phrases; higher fits better.

        A region's score may depend on the other regions of its image, on nothing else.
        """
        ...

    def score_pairs(
        self, phrases: Phrases, regions: RegionTable, asked: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return scores (n,) of all n regions, of each image for the one phrase asked of it.

        `asked` has a row of `phrases` for each image.
        """
        ...

    def probabilities(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Return the probability that each score's region matches and the phrase is there.

        None if the matcher was never calibrated. Probabilities grow with scores.
        """
        ...


@dataclass(frozen=True)
class CosineMatcher:
    """Scores a region by the cosine of its embedding and the phrase's.

    Parameters
    ----------
    calibration : Calibration or None
        Turns cosines into probabilities; each encoder and collection needs its own.
    """

    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        """How tables call it."""
        return "cosine"

    def score(self, phrases: Phrases, regions: RegionTable) -> npt.NDArray[np.float32]:
        """Return cosines, (p, n); see :class:`Matcher`."""
        cosines: npt.NDArray[np.float32] = (
            phrases.embeddings @ regions.embeddings.astype(np.float32).T
        )
        return cosines

    def score_pairs(
        self, phrases: Phrases, regions: RegionTable, asked: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return cosines, (n,); see :class:`Matcher`."""
        said = np.repeat(phrases.embeddings[asked], np.diff(regions.offsets), axis=0)
        cosines: npt.NDArray[np.float32] = np.einsum(
            "nd,nd->n", regions.embeddings.astype(np.float32), said
        )
        return cosines

    def probabilities(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Return calibrated probabilities, or None."""
        return None if self.calibration is None else self.calibration(scores)
