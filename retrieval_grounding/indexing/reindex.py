"""Reindexing: making the vector index anew, of a chosen kind, tuned on phrases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..core.errors import GroundingError
from ..matching.statements import pseudo_statements
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from ..storage.vectors.kinds import check_kind
from ..storage.vectors.metadata import DEFAULT_RECALL
from ..storage.vectors.sync import PhraseSource, rebuild_vectors

__all__ = ["phrase_source", "reindex"]


_IMAGES = 400
_PHRASES = 256


def reindex(
    catalog: Catalog,
    load_encoder: Callable[[], Encoder],
    wanted: str = "auto",
    recall: float = DEFAULT_RECALL,
    progress: bool | None = None,
) -> None:
    """Make the vector index anew; the caller holds the writer's lock.

    Parameters
    ----------
    catalog : Catalog
        Of the index.
    load_encoder : callable
        Called if the kind has to be tuned.
    wanted : str
        ``"auto"``, ``"flat"``, ``"ivf"`` or ``"hnsw"``; later builds keep to it.
    recall : float
        Share of the exact candidate images that an approximate kind shall find.
    progress : bool, optional
        Show a bar; None shows it on a terminal.

    Raises
    ------
    GroundingError
        If there is no such kind, or `recall` is not between 0 and 1.
    """
    kind = check_kind(wanted)
    if not 0 < recall <= 1:
        raise GroundingError(f"{recall} is no recall to reach; give one above 0 and up to 1")
    rebuild_vectors(catalog, kind, recall, phrase_source(catalog, load_encoder), progress)


def phrase_source(catalog: Catalog, load_encoder: Callable[[], Encoder]) -> PhraseSource:
    """Return a function that makes phrases about some images of the index, and embeds them."""

    def embed() -> npt.NDArray[np.float32]:
        keys = sorted({(image.shard, image.row) for image in catalog.images()})
        drawn = np.random.default_rng(0).permutation(len(keys))[:_IMAGES]
        told = pseudo_statements(RegionStore(catalog), [keys[number] for number in drawn], 0)
        phrases = list(dict.fromkeys(statement.phrase for statement in told))
        # Drawn, or one image with many objects would speak for all.
        order = np.random.default_rng(1).permutation(len(phrases))[:_PHRASES]
        if not len(order):
            return np.zeros((0, catalog.dimension), np.float32)
        return load_encoder().encode_phrases([phrases[number] for number in order])

    return embed
