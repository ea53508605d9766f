"""Describing an index: what it holds and what was measured of it."""

from __future__ import annotations

from typing import Any

from ..storage.catalog import Catalog
from ..storage.vectors.metadata import read_metadata
from ..storage.vectors.sync import reason_to_reindex

__all__ = ["describe_vectors"]


def describe_vectors(catalog: Catalog) -> dict[str, Any]:
    """Return the kind of an index's vector index and what was measured, as plain values."""
    metadata = read_metadata(catalog)
    facts: dict[str, Any] = {"kind": metadata.kind, "wanted": metadata.requested}
    tuning = metadata.tuning
    if tuning is None:
        return facts
    counts = catalog.counts()
    total = counts["regions"] + counts["unused_regions"]
    return facts | {
        "recall": tuning.recall,
        "recall_wanted": metadata.target_recall,
        "measured_with_phrases": tuning.phrases,
        "measured_with_regions": tuning.regions,
        "effort": tuning.parameters.value(metadata.kind),
        "regions_rescored_per_image": tuning.refine_factor,
        "reindex_because": reason_to_reindex(metadata, total),
    }
