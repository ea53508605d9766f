"""Phrases on which an approximate vector index is tuned."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..core.errors import ModelError
from ..matching.statements import pseudo_statements
from ..models.checks import encode_phrases
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from ..storage.vectors.sync import PhraseSource

__all__ = ["phrase_source"]


_IMAGES = 400
_PHRASES = 256

_log = logging.getLogger(__name__)


def phrase_source(catalog: Catalog, load_encoder: Callable[[], Encoder]) -> PhraseSource:
    """Return a function that makes phrases about some images of the index and embeds them.

    It returns none if there is nothing to describe or the encoder cannot be loaded; the caller then
    tunes on the class names.
    """

    def embed() -> npt.NDArray[np.float32]:
        keys = sorted({(image.shard, image.row) for image in catalog.images()})
        drawn = np.random.default_rng(0).permutation(len(keys))[:_IMAGES]
        statements = pseudo_statements(RegionStore(catalog), [keys[number] for number in drawn], 0)
        phrases = list(dict.fromkeys(statement.phrase for statement in statements))
        # A sample, since the first phrases may all be about one image with many objects.
        order = np.random.default_rng(1).permutation(len(phrases))[:_PHRASES]
        if not len(order):
            return np.zeros((0, catalog.dimension), np.float32)
        try:
            encoder = load_encoder()
        except ModelError as error:
            _log.warning("the vector index is tuned on class names, not on phrases: %s", error)
            return np.zeros((0, catalog.dimension), np.float32)
        return encode_phrases(encoder, [phrases[number] for number in order])

    return embed
