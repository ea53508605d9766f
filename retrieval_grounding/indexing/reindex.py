"""Rebuilding the vector index, as a chosen kind and tuned on phrases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.errors import GroundingError
from ..matching.statements import pseudo_statements
from ..models.checks import encode_phrases
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from ..storage.vectors.kinds import check_kind
from ..storage.vectors.metadata import DEFAULT_RECALL
from ..storage.vectors.sync import PhraseSource, rebuild_vectors
from .write_session import write_session

__all__ = ["phrase_source", "reindex"]


_IMAGES = 400
_PHRASES = 256


def reindex(
    directory: Path,
    load_encoder: Callable[[], Encoder],
    wanted: str = "auto",
    recall: float = DEFAULT_RECALL,
    progress: bool | None = None,
    timeout: float = 0.0,
) -> None:
    """Rebuild the vector index of an index.

    Parameters
    ----------
    directory : Path
        Folder of the index.
    load_encoder : callable
        Called if the kind has to be tuned.
    wanted : str
        ``"auto"``, ``"flat"``, ``"ivf"`` or ``"hnsw"``; later builds keep to it.
    recall : float
        Share of the exact candidate images that an approximate kind must find, above 0 and up to 1.
    progress : bool, optional
        Whether to show a progress bar; None shows it on a terminal.
    timeout : float
        Seconds to wait for a different writer.

    Raises
    ------
    GroundingError
        If there is no such kind, or `recall` is not between 0 and 1.
    """
    kind = check_kind(wanted)
    if not 0 < recall <= 1:
        raise GroundingError(f"the recall must be above 0 and at most 1, not {recall}")
    with write_session(directory, timeout) as catalog:
        rebuild_vectors(catalog, kind, recall, phrase_source(catalog, load_encoder), progress)


def phrase_source(catalog: Catalog, load_encoder: Callable[[], Encoder]) -> PhraseSource:
    """Return a function that makes phrases about some images of the index and embeds them."""

    def embed() -> npt.NDArray[np.float32]:
        keys = sorted({(image.shard, image.row) for image in catalog.images()})
        drawn = np.random.default_rng(0).permutation(len(keys))[:_IMAGES]
        statements = pseudo_statements(RegionStore(catalog), [keys[number] for number in drawn], 0)
        phrases = list(dict.fromkeys(statement.phrase for statement in statements))
        # A sample, since the first phrases may all be about one image with many objects.
        order = np.random.default_rng(1).permutation(len(phrases))[:_PHRASES]
        if not len(order):
            return np.zeros((0, catalog.dimension), np.float32)
        return encode_phrases(load_encoder(), [phrases[number] for number in order])

    return embed
