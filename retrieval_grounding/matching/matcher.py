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
    """Scores regions for phrases; an object with these members can rank hits.

    A region's score may depend on the other regions of its image, and on nothing else in the
    table. Threads may share a matcher, so scoring must not change it.

    Examples
    --------
    A matcher that prefers large regions and ignores the phrase:

    >>> class LargestFirst:
    ...     name = "largest"
    ...
    ...     def score(self, phrases, regions):
    ...         sides = regions.boxes[:, 2:] - regions.boxes[:, :2]
    ...         return np.tile(sides.prod(1), (len(phrases), 1))
    ...
    ...     def score_pairs(self, phrases, regions, phrase_rows):
    ...         return self.score(phrases[:1], regions)[0]
    ...
    ...     def probabilities(self, scores):
    ...         return None
    >>> matcher: Matcher = LargestFirst()
    """

    @property
    def name(self) -> str:
        """Name in tables of results."""
        ...

    def score(self, phrases: Phrases, regions: RegionTable) -> npt.NDArray[np.float32]:
        """Score every region for every phrase.

        Parameters
        ----------
        phrases : Phrases
            p phrases, with embeddings of the encoder that made those of the regions.
        regions : RegionTable
            n regions of one or several images.

        Returns
        -------
        float32 array of shape (p, n)
            Higher fits better; only the order counts. Every score is a finite number.
        """
        ...

    def score_pairs(
        self, phrases: Phrases, regions: RegionTable, phrase_rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Score the regions of each image for one phrase.

        Parameters
        ----------
        phrases : Phrases
            p phrases.
        regions : RegionTable
            n regions of m images.
        phrase_rows : int64 array of shape (m,)
            For each image, the row of its phrase in `phrases`.

        Returns
        -------
        float32 array of shape (n,)
            The scores that :meth:`score` gives these regions for these phrases.
        """
        ...

    def probabilities(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Turn scores into probabilities that the region is what its phrase describes.

        Parameters
        ----------
        scores : float32 array of any shape
            From :meth:`score` or :meth:`score_pairs`.

        Returns
        -------
        float32 array of the same shape, or None
            Between 0 and 1, in the order of the scores; None if the matcher is not calibrated.
        """
        ...


@dataclass(frozen=True)
class CosineMatcher:
    """Scores a region by the cosine of its embedding and the phrase's.

    Parameters
    ----------
    calibration : Calibration or None
        Turns cosines into probabilities; each encoder and collection needs its own.

    Examples
    --------
    >>> from retrieval_grounding.core.phrases import Phrases
    >>> phrases = Phrases(["a dog"], np.array([[1.0, 0.0]], np.float32))
    >>> regions = RegionTable(
    ...     embeddings=np.array([[0.6, 0.8], [1, 0]], np.float16),
    ...     boxes=np.array([[0, 0, 80, 60], [10, 20, 30, 40]], np.float32),
    ...     scores=np.array([1, 0.9], np.float32),
    ...     labels=np.array([0, 1]),
    ...     colors=np.zeros((2, 11), np.uint8),
    ...     offsets=np.array([0, 2]),
    ...     label_names=["whole image", "dog"],
    ...     label_embeddings=np.array([[0, 0], [1, 0]], np.float32),
    ... )
    >>> CosineMatcher().score(phrases, regions).round(2).tolist()
    [[0.6000000238418579, 1.0]]
    """

    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        """Name in tables of results: ``"cosine"``."""
        return "cosine"

    def score(self, phrases: Phrases, regions: RegionTable) -> npt.NDArray[np.float32]:
        """Return the cosines (p, n) of p phrases and n regions; see :meth:`Matcher.score`."""
        embeddings = regions.embeddings.astype(np.float32)
        cosines: npt.NDArray[np.float32] = phrases.embeddings @ embeddings.T
        return cosines

    def score_pairs(
        self, phrases: Phrases, regions: RegionTable, phrase_rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return cosines (n,), each image for its own phrase; see :meth:`Matcher.score_pairs`."""
        phrase_of_region = np.repeat(phrase_rows, np.diff(regions.offsets))
        cosines: npt.NDArray[np.float32] = np.einsum(
            "nd,nd->n",
            regions.embeddings.astype(np.float32),
            phrases.embeddings[phrase_of_region],
        )
        return cosines

    def probabilities(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Return calibrated probabilities of cosines, or None without a calibration."""
        return None if self.calibration is None else self.calibration(scores[..., None]).box[..., 0]
