"""Probabilities of queries with several clauses: what must, may and must not be there.

Every phrase is scored by itself and calibrated. The probability of a hit is the product of the
probabilities that its region is what is wanted, that its image shows what is also wanted, and that
what is unwanted is absent, as if they were independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.errors import GroundingError, QueryError
from ..core.phrases import Phrases
from ..core.query.value import Query
from ..matching import checks
from ..matching.calibration import Probabilities
from ..matching.matcher import Matcher
from .examples import EmbeddedExample
from .pool import Pool
from .rank import best_regions

__all__ = ["ClauseScores", "Ranked", "rank_pool", "refuse_probability", "score_clauses"]


Floats = npt.NDArray[np.float32]

_MORE_PROBABLE_THAN_NOT = 0.5
_LOWEST = 1e-6  # keeps logarithms finite


@dataclass(frozen=True)
class ClauseScores:
    """Scores and probabilities of all regions of a pool for every phrase of a query.

    Parameters
    ----------
    scores : float32 array of shape (p, n)
        The matcher's; the phrase first, then `also`, then `unwanted`.
    probabilities : Probabilities or None
        Two float32 arrays of shape (p, n). Those of the phrase are of a search among all images;
        those of the others, of looking at the one image. None if the matcher is not calibrated.
    likeness : float32 array of shape (e, n)
        Cosines with the examples.
    """

    scores: Floats
    probabilities: Probabilities | None
    likeness: Floats


@dataclass(frozen=True)
class Ranked:
    """An image that answers a query.

    Parameters
    ----------
    image : int
        Its number in the pool.
    row : int
        Its best region.
    score : float
        What images are sorted by.
    probability, image_probability : float or None
        Of the region and of the image; None if they cannot be given.
    also : tuple of int
        The best region for each phrase of `also`.
    """

    image: int
    row: int
    score: float
    probability: float | None
    image_probability: float | None
    also: tuple[int, ...] = ()


def score_clauses(
    query: Query,
    phrases: Phrases,
    known: Sequence[bool],
    examples: Sequence[EmbeddedExample],
    pool: Pool,
    matcher: Matcher,
    images: int,
) -> ClauseScores:
    """Score all regions for all phrases and examples of a query.

    Parameters
    ----------
    query : Query
        Names the phrases in errors.
    phrases : Phrases
        The phrase, if there is one, then `also`, then `unwanted`.
    known : sequence of bool
        Of which phrases the encoder knows a word; the others have probability 0.
    examples : sequence of EmbeddedExample
        What regions should look like.
    pool : Pool
        The images and their regions.
    matcher : Matcher
        Scores regions for phrases.
    images : int
        Number of images that were searched.

    Raises
    ------
    GroundingError
        If the query needs probabilities, and the matcher has none.
    """
    regions = pool.regions
    scores = np.zeros((0, len(regions)), np.float32)
    probabilities: Probabilities | None = None
    if len(phrases):
        scores = checks.score(matcher, phrases, regions)
        searched = None if query.phrase is None else images
        probabilities = _probabilities(matcher, scores, pool, searched)
    if probabilities is not None:
        words = np.array(known, np.float32)[:, None]
        probabilities = Probabilities(probabilities.image * words, probabilities.box * words)
    elif query.also or query.unwanted:
        raise GroundingError(
            f"the query {query.title!r} combines phrases by their probabilities, and no calibrated "
            "matcher fits this encoder; train one with 'retrieval-grounding train'"
        )
    vectors = np.array([example.embedding for example in examples], np.float32)
    vectors = vectors.reshape(len(examples), regions.embeddings.shape[1])
    likeness: Floats = vectors @ regions.embeddings.astype(np.float32).T
    return ClauseScores(scores, probabilities, likeness)


def _probabilities(
    matcher: Matcher, scores: Floats, pool: Pool, images: int | None
) -> Probabilities | None:
    """Return probabilities (p, n): of the first phrase among `images`, of others in one image."""
    alone = checks.probabilities(matcher, scores[..., None], 1)
    if alone is None:
        return None
    found = Probabilities(alone.image[..., 0].copy(), alone.box[..., 0].copy())
    if images is None:
        return found
    offsets = pool.regions.offsets
    images = max(images, len(offsets) - 1)
    best = best_regions(np.where(pool.allowed, scores[0], -np.inf), offsets)
    best = best[pool.allowed[best]]
    # The best region of each image competes with those of the other images, as in a plain search.
    for rows, of_rows in ((np.arange(len(scores[0])), scores[0][:, None]), (best, scores[0][best])):
        own = checks.probabilities(matcher, of_rows, images)
        if own is not None and len(rows):
            found.image[0, rows] = own.image.reshape(-1)
            found.box[0, rows] = own.box.reshape(-1)
    return found


def rank_pool(
    query: Query, clauses: ClauseScores, weights: Sequence[float], pool: Pool
) -> list[Ranked]:
    """Return the images of a pool that answer a query, best first.

    Parameters
    ----------
    query : Query
        What is asked.
    clauses : ClauseScores
        Of all regions of the pool.
    weights : sequence of e float
        Of the examples.
    pool : Pool
        The images.
    """
    offsets = pool.regions.offsets
    images_of = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    first_also = 0 if query.phrase is None else 1
    first_unwanted = first_also + len(query.also)
    factor, excluded = np.ones(len(images_of), np.float32), ~pool.allowed
    also_rows = np.zeros((len(query.also), len(offsets) - 1), np.int64)
    probabilities = clauses.probabilities
    if probabilities is not None:
        for number, own in enumerate(probabilities.image[first_also:first_unwanted]):
            also_rows[number] = best_regions(clauses.scores[first_also + number], offsets)
            factor *= own[also_rows[number]][images_of]
        for image_own, box_own in zip(
            probabilities.image[first_unwanted:], probabilities.box[first_unwanted:], strict=True
        ):
            of_image = np.maximum.reduceat(image_own, offsets[:-1])[images_of]
            present = of_image if query.scope == "image" else box_own
            factor *= 1 - present
            excluded |= present >= _MORE_PROBABLE_THAN_NOT
    scores, shown = _combined(query, clauses, weights, factor, pool.allowed)
    scores = np.where(excluded, -np.inf, scores)
    best = best_regions(scores, offsets)
    order = np.argsort(-scores[best], kind="stable")
    ranked = []
    for image in order.tolist():
        row = int(best[image])
        if scores[row] == -np.inf:
            break
        is_it = None if shown is None else float(shown.box[row])
        shows = None if shown is None else float(shown.image[row])
        also = tuple(also_rows[:, image].tolist())
        ranked.append(Ranked(image, row, float(scores[row]), is_it, shows, also))
    return ranked


def _combined(
    query: Query,
    clauses: ClauseScores,
    weights: Sequence[float],
    factor: Floats,
    allowed: npt.NDArray[np.bool_],
) -> tuple[Floats, Probabilities | None]:
    """Return the score and the probabilities of every region; None if there are none."""
    probabilities = clauses.probabilities
    product = None
    if probabilities is not None and query.phrase is not None:
        product = Probabilities(probabilities.image[0] * factor, probabilities.box[0] * factor)
    if not len(clauses.likeness):
        if not query.also and not query.unwanted:
            return clauses.scores[0], product
        assert product is not None
        safe = np.clip(product.box, _LOWEST, 1 - _LOWEST)
        # Log odds, in which a matcher's scores are, too; ties of impossible ones keep their order.
        return np.log(safe) - np.log1p(-safe) + _LOWEST * clauses.scores[0], product
    if query.phrase is None:
        likeness: Floats = np.average(clauses.likeness, axis=0, weights=weights) * factor
        return likeness.astype(np.float32), None
    total = _standardized(clauses.scores[0], allowed)
    for weight, cosines in zip(weights, clauses.likeness, strict=True):
        total = total + weight * _standardized(cosines, allowed)
    return total + np.log(np.maximum(factor, _LOWEST)), product


def _standardized(scores: Floats, allowed: npt.NDArray[np.bool_]) -> Floats:
    """Return scores in standard deviations from the mean of those that may be found.

    Phrases and pictures lie apart in CLIP's space, so their cosines cannot be added as they are.
    """
    known = scores[allowed] if allowed.any() else scores
    spread = float(known.std()) or 1.0
    standardized: Floats = (scores - float(known.mean())) / np.float32(spread)
    return standardized


def refuse_probability(query: Query, minimum: float | None) -> None:
    """Refuse a minimum probability where hits have none, because examples are not calibrated.

    Raises
    ------
    QueryError
        If `minimum` is not 0 and the query has no phrase.
    """
    if minimum and query.phrase is None:
        raise QueryError(
            "what looks like an example has a score and no probability; add a phrase, or leave the "
            "minimum probability out"
        )
