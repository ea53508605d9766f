"""Ranking regions: the best of each image, and hits above a probability."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..core.errors import GroundingError
from ..core.hits import Hit
from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from ..matching.matcher import Matcher

__all__ = ["best_regions", "probable_hits", "rank_regions"]


def best_regions(
    scores: npt.NDArray[np.float32], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the row of the best region of each image.

    Parameters
    ----------
    scores : array of shape (n,)
        Of all regions.
    offsets : array of shape (images + 1,)
        Rows ``offsets[i]:offsets[i + 1]`` belong to image i; none is empty.

    Examples
    --------
    >>> best_regions(np.array([0.1, 0.9, 0.5, 0.2], np.float32), np.array([0, 2, 4])).tolist()
    [1, 2]
    """
    pairs = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    return np.array([start + int(np.argmax(scores[start:end])) for start, end in pairs], np.int64)


def _box(corners: npt.NDArray[np.float32]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = corners.tolist()
    return x1, y1, x2, y2


def rank_regions(
    phrases: Phrases, image: str, regions: RegionTable, matcher: Matcher, top: int
) -> list[list[Hit]]:
    """Return the `top` best regions of the one image in `regions`, for each phrase."""
    ranked = []
    all_scores = matcher.score(phrases, regions)
    all_chances = matcher.probabilities(all_scores)
    for number, (phrase, scores) in enumerate(zip(phrases.texts, all_scores, strict=True)):
        chances = None if all_chances is None else all_chances[number]
        hits = []
        for row in np.argsort(-scores, kind="stable")[:top].tolist():
            hits.append(
                Hit(
                    phrase=phrase,
                    image=image,
                    box=_box(regions.boxes[row]),
                    score=float(scores[row]),
                    probability=None if chances is None else float(chances[row]),
                    label=regions.label(row),
                    region_id=None,
                )
            )
        ranked.append(hits)
    return ranked


def probable_hits(hits: list[Hit], least: float) -> list[Hit]:
    """Return the hits with a probability of at least `least`; 0 takes all.

    Raises
    ------
    GroundingError
        If `least` is no probability, or the hits have none because no matcher is calibrated.
    """
    if not 0 <= least <= 1:
        raise GroundingError(f"{least} is no probability; give one from 0 to 1")
    if not least:
        return hits
    if any(hit.probability is None for hit in hits):
        raise GroundingError(
            "these hits have no probabilities, since no calibrated matcher fits this encoder; "
            "train one with 'retrieval-grounding train'"
        )
    return [hit for hit in hits if hit.probability is not None and hit.probability >= least]
