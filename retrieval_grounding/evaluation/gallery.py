"""Retrieval in the evaluation: the rank of a phrase's image among all images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..core.progress import progress_bar
from ..matching import checks
from ..matching.matcher import Matcher
from ..storage.region_store import RegionStore
from .queries import Queries

__all__ = ["rank_gallery"]

_IMAGES_AT_ONCE = 256
_PHRASES_AT_ONCE = 512


def rank_gallery(
    queries: Queries,
    rows: npt.NDArray[np.int64],
    own_scores: Mapping[str, npt.NDArray[np.float32]],
    matchers: Mapping[str, Matcher],
    store: RegionStore,
) -> dict[str, npt.NDArray[np.int64]]:
    """Return the rank of each phrase's own image among all images, 1 being the best.

    An image has the score of its best region. Images with equal scores rank before the right one,
    so a matcher that gives all regions the same score gains nothing.

    Parameters
    ----------
    queries : Queries
        Their images are the gallery.
    rows : int array of shape (m,)
        The queries to search for.
    own_scores : mapping of str to float array of shape (n,)
        The best score in a phrase's own image, for each matcher.
    matchers : mapping of str to Matcher
        By name.
    store : RegionStore
        Reads the regions.

    Returns
    -------
    dict of str to int array of shape (m,)
        For each matcher.
    """
    ranks = {name: np.ones(len(rows), np.int64) for name in matchers}
    keys = queries.keys if len(rows) else []
    with progress_bar("Searching", len(keys), "images") as advance:
        for first in range(0, len(keys), _IMAGES_AT_ONCE):
            regions = store.gather(keys[first : first + _IMAGES_AT_ONCE])
            images = first + np.arange(len(regions.offsets) - 1)
            for start in range(0, len(rows), _PHRASES_AT_ONCE):
                part = slice(start, start + _PHRASES_AT_ONCE)
                chosen = rows[part]
                other_image = queries.images[chosen][:, None] != images
                for name, matcher in matchers.items():
                    scores = checks.score(matcher, queries.phrases[chosen], regions)
                    best = np.maximum.reduceat(scores, regions.offsets[:-1], axis=1)
                    ahead = (best >= own_scores[name][chosen][:, None]) & other_image
                    ranks[name][part] += ahead.sum(axis=1)
            advance(len(images))
    return ranks
