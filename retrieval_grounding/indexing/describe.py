"""Describing an index: what it holds and what was measured of it."""

from __future__ import annotations

from typing import Any

from ..storage.catalog import Catalog
from ..storage.vectors.metadata import read_record
from ..storage.vectors.sync import reason_to_reindex

__all__ = ["describe_vectors"]


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
