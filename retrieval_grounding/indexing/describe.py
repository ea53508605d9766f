"""Describing an index: what it holds, which models built it, and what runs where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..matching.entries import MatcherEntry, usable_entry
from ..matching.names import COSINE, COSINE_LABEL
from ..storage.catalog import Catalog
from ..storage.files import folder_size
from ..storage.vectors.metadata import read_metadata
from ..storage.vectors.sync import reason_to_reindex
from .model_spec import encoder_fingerprint, recorded_settings

__all__ = ["describe_index", "describe_vectors"]

_SETTINGS = ("format_version", "preset", "detector", "clip", "dimension", "created_with")


def describe_index(
    catalog: Catalog,
    matchers: Sequence[MatcherEntry],
    device: str,
    search: dict[str, Any],
    search_device: str,
) -> dict[str, Any]:
    """Return what is known about an index, as plain values.

    Parameters
    ----------
    catalog : Catalog
        Of the index.
    matchers : sequence of MatcherEntry
        What can score its regions.
    device : str
        Where models run, as :func:`retrieval_grounding.models.device.resolve_device` returns it.
    search : dict
        How vectors are searched.
    search_device : str
        Where they are searched.
    """
    chosen = next(entry for entry in matchers if entry.in_use)
    used = usable_entry(catalog, encoder_fingerprint(catalog), matchers)
    matcher_device = "cpu" if used.name in (COSINE, COSINE_LABEL) else device
    return {
        "directory": str(catalog.directory),
        **{key: catalog.setting(key) for key in _SETTINGS},
        "detector_fingerprint": catalog.parse_setting("detector_fingerprint", _required),
        "encoder_fingerprint": str(encoder_fingerprint(catalog)),
        **catalog.counts(),
        "groups": catalog.setting("detector") is not None and recorded_settings(catalog).groups,
        "vectors": describe_vectors(catalog) | search,
        "matcher": used.name,
        "matcher_kind": used.kind,
        "matcher_in_use": chosen.name,
        "runs": f"vector search on {search_device}, matcher on {matcher_device}, "
        f"encoder on {device}",
        "bytes": folder_size(catalog.directory),
    }


def describe_vectors(catalog: Catalog) -> dict[str, Any]:
    """Return the kind of an index's vector index and what was measured of it, as plain values."""
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


def _required(value: Any) -> Any:
    if value is None:
        raise ValueError("it is missing")
    return value
