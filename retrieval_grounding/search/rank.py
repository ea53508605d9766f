"""Ranking regions: the best of each image, hits, and hits above a probability."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from ..core.errors import GroundingError
from ..core.hits import Hit
from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from ..matching import checks
from ..matching.calibration import Probabilities
from ..matching.matcher import Matcher

__all__ = ["best_regions", "filter_by_probability", "make_hit", "rank_regions"]

logger = logging.getLogger(__name__)


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
    starts = offsets[:-1]
    largest = np.repeat(np.maximum.reduceat(scores, starts), np.diff(offsets))
    rows = np.flatnonzero(scores == largest)
    best: npt.NDArray[np.int64] = rows[np.searchsorted(rows, starts)]  # the first of equal ones
    return best


def make_hit(
    phrase: str,
    image: str,
    regions: RegionTable,
    row: int,
    scores: npt.NDArray[np.float32],
    probabilities: Probabilities | None,
    *,
    region_id: int | None = None,
    content_hash: str | None = None,
) -> Hit:
    """Return the hit for one row of `regions`; `scores` and `probabilities` have the same rows."""
    x1, y1, x2, y2 = regions.boxes[row].tolist()
    image_number = int(np.searchsorted(regions.offsets, row, side="right")) - 1
    _, _, width, height = regions.boxes[regions.offsets[image_number]].tolist()  # the whole image
    return Hit(
        phrase=phrase,
        image=image,
        box=(x1, y1, x2, y2),
        score=float(scores[row]),
        probability=None if probabilities is None else float(probabilities.box[row]),
        label=regions.label(row),
        region_id=region_id,
        content_hash=content_hash,
        label_score=float(regions.scores[row]),
        image_size=(round(width), round(height)),
        image_probability=None if probabilities is None else float(probabilities.image[row]),
    )


def rank_regions(
    phrases: Phrases, image: str, regions: RegionTable, matcher: Matcher, top: int
) -> list[list[Hit]]:
    """Return the `top` best regions of the one image in `regions`, for each phrase.

    The probabilities are those of a collection of one image.
    """
    ranked = []
    for phrase, scores in zip(phrases.texts, checks.score(matcher, phrases, regions), strict=True):
        probabilities = checks.probabilities(matcher, scores[:, None], 1)
        if probabilities is not None:
            probabilities = Probabilities(*(column[:, 0] for column in probabilities))
        rows = np.argsort(-scores, kind="stable")[:top].tolist()
        ranked.append(
            [make_hit(phrase, image, regions, row, scores, probabilities) for row in rows]
        )
    return ranked


def filter_by_probability(hits: list[Hit], minimum: float | None) -> list[Hit]:
    """Return the hits whose image matches with a probability of at least `minimum`; 0 keeps all.

    None stands for the default minimum, and keeps hits without probabilities.

    Raises
    ------
    GroundingError
        If `minimum` is not between 0 and 1, or the hits have no probabilities because the matcher
        is not calibrated.
    """
    if minimum is None:
        return [hit for hit in hits if hit.matches]
    if not 0 <= minimum <= 1:
        raise GroundingError(f"the minimum probability must be between 0 and 1, not {minimum}")
    if not minimum:
        return hits
    if any(hit.presence is None for hit in hits):
        raise GroundingError(
            "these hits have no probabilities, because no calibrated matcher fits this encoder; "
            "train one with 'retrieval-grounding train'"
        )
    kept = [hit for hit in hits if hit.presence is not None and hit.presence >= minimum]
    if len(kept) < len(hits):
        logger.debug(
            "dropped %d of %d hits for %r: less probable than %g",
            len(hits) - len(kept),
            len(hits),
            hits[0].phrase,
            minimum,
        )
    return kept
