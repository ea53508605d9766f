"""Reindexing: making the vector index anew, of a chosen kind, tuned on phrases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .encoders import Encoder
from .errors import GroundingError
from .gathering import RegionStore
from .statements import pseudo_statements
from .storage.catalog import Catalog
from .vectors.following import PhraseSource, make_again, reason_to_reindex
from .vectors.kinds import check_wanted
from .vectors.record import DEFAULT_RECALL, read_record

__all__ = ["describe_vectors", "phrase_source", "reindex"]

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
    kind = check_wanted(wanted)
    if not 0 < recall <= 1:
        raise GroundingError(f"{recall} is no recall to reach; give one above 0 and up to 1")
    make_again(catalog, kind, recall, phrase_source(catalog, load_encoder), progress)


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


def describe_vectors(catalog: Catalog) -> dict[str, Any]:
    """Return the kind of an index's vector index and what was measured, as plain values."""
    record = read_record(catalog)
    facts: dict[str, Any] = {"kind": record.kind, "wanted": record.wanted}
    tuning = record.tuning
    if tuning is None:
        return facts
    counts = catalog.counts()
    total = counts["regions"] + counts["unused_regions"]
    return facts | {
        "recall": tuning.recall,
        "recall_wanted": record.target,
        "measured_with_phrases": tuning.phrases,
        "measured_with_regions": tuning.regions,
        "effort": tuning.effort,
        "regions_rescored_per_image": tuning.per_image,
        "reindex_because": reason_to_reindex(record, total),
    }
