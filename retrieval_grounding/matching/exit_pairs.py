"""What an early exit learns from: training phrases, with images that a search would look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from ..core.types import RowKey
from .dataset import Examples
from .galleries import Regions

__all__ = ["exit_pairs"]


_MIN_PHRASES, _MAX_PHRASES = 16, 160
_IMAGES_PER_PHRASE = 4
_IMAGES = 64
_POOL = 768


def exit_pairs(
    store: Regions, keys: Sequence[RowKey], examples: Examples, seed: int
) -> Iterator[tuple[Phrases, RegionTable]]:
    """Yield phrases, each with its own image and those whose regions are nearest to it.

    Parameters
    ----------
    store : Regions
        Reads the regions of the images.
    keys : sequence of RowKey
        The images that the examples number.
    examples : Examples
        Phrases about images.
    seed : int
        Of the choice of phrases and images.
    """
    random = np.random.default_rng(seed)
    described = np.unique(examples.image)
    pool = random.permutation(described)[:_POOL]
    table = store.gather([keys[image] for image in pool.tolist()])
    embeddings = table.embeddings.astype(np.float32)
    inside = np.flatnonzero(np.isin(examples.image, pool))
    count = min(_MAX_PHRASES, max(_MIN_PHRASES, len(pool) // _IMAGES_PER_PHRASE))
    for row in random.permutation(inside)[:count].tolist():
        phrases = examples.phrases[examples.phrase[row : row + 1]]
        cosines = embeddings @ phrases.embeddings[0]
        nearest = np.maximum.reduceat(cosines, table.offsets[:-1])
        nearest[pool == examples.image[row]] = np.inf
        yield phrases, table.take_images(np.argsort(-nearest, kind="stable")[:_IMAGES])
