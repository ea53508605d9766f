"""Metadata of the vector index, which the catalog stores as its setting ``vectors``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..catalog import Catalog
from .kinds import KINDS, REQUESTS, Kind, RequestedKind
from .search_parameters import SearchParameters

__all__ = [
    "DEFAULT_RECALL",
    "FIRST_VECTORS_FILE",
    "VECTORS_FILES",
    "Tuning",
    "VectorMetadata",
    "read_metadata",
    "write_metadata",
]


DEFAULT_RECALL = 0.98
"""Share of the exact candidate images that an approximate index is tuned to find."""

FIRST_VECTORS_FILE = "vectors.faiss"
"""The name of the file where the catalog does not record one."""

VECTORS_FILES = re.compile(r"vectors(-[0-9a-f]{16})?\.faiss")
"""The names that the file may have."""

_SETTING = "vectors"

_MAX_EFFORT = 1 << 20
_MAX_REFINE_FACTOR = 1 << 10


@dataclass(frozen=True)
class Tuning:
    """How an approximate index is searched, and the recall that was measured.

    Parameters
    ----------
    parameters : SearchParameters
        nprobe or ef_search.
    refine_factor : int
        Regions to re-score with their exact vectors for each candidate image.
    recall : float or None
        Share of the exact candidate images found, for phrases held out from tuning; None if there
        was no phrase to measure with.
    phrases : int
        Phrases that recall was measured with.
    regions : int
        Regions in the index when it was measured.
    trained_regions : int
        Regions in the index when its lists were trained.
    """

    parameters: SearchParameters
    refine_factor: int
    recall: float | None
    phrases: int
    regions: int
    trained_regions: int


@dataclass(frozen=True)
class VectorMetadata:
    """What the catalog stores about the file of the vector index.

    Parameters
    ----------
    generation : int
        Generation of the catalog that the file was written for; -1 if there is no file.
    checksum : str or None
        BLAKE2b-128 of the file.
    kind : str or None
        ``"flat"``, ``"ivf"`` or ``"hnsw"``; None if there is no file, or one of a release that had
        no kinds.
    shards : tuple of int
        Shards whose rows are all in the file.
    requested : str
        The kind that the user requested, or ``"auto"``.
    target_recall : float
        Recall to tune for, above 0 and up to 1.
    tuning : Tuning or None
        For approximate kinds.
    file : str
        Name of the file in the folder of the index.
    """

    generation: int = -1
    checksum: str | None = None
    kind: Kind | None = None
    shards: tuple[int, ...] = ()
    requested: RequestedKind = "auto"
    target_recall: float = DEFAULT_RECALL
    tuning: Tuning | None = None
    file: str = FIRST_VECTORS_FILE


def read_metadata(catalog: Catalog) -> VectorMetadata:
    """Return the metadata of the vector index.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    return catalog.parse_setting(_SETTING, _parse)


def write_metadata(catalog: Catalog, metadata: VectorMetadata) -> None:
    """Store the metadata of the vector index."""
    tuning = metadata.tuning
    stored = {
        "generation": metadata.generation,
        "checksum": metadata.checksum,
        "kind": metadata.kind,
        "shards": metadata.shards,
        "wanted": metadata.requested,
        "target": metadata.target_recall,
        "tuning": None if tuning is None else _tuning_to_json(tuning, metadata.kind),
        "file": metadata.file,
    }
    catalog.set_setting(_SETTING, stored)


def _parse(value: Any) -> VectorMetadata:
    stored = dict(value or {})
    requested = stored.get("wanted", "auto")
    target_recall = float(stored.get("target", DEFAULT_RECALL))
    if requested not in REQUESTS or not 0 < target_recall <= 1:
        raise ValueError("an unknown kind or an impossible recall")
    kind = stored.get("kind")
    if kind not in KINDS:  # written by a release without kinds, whose file held different rows
        return VectorMetadata(requested=requested, target_recall=target_recall)
    checksum, file = stored.get("checksum"), stored.get("file", FIRST_VECTORS_FILE)
    if VECTORS_FILES.fullmatch(file) is None:
        raise ValueError("an impossible file name")
    return VectorMetadata(
        generation=int(stored.get("generation", -1)),
        checksum=None if checksum is None else str(checksum),
        kind=kind,
        shards=tuple(int(number) for number in stored.get("shards", ())),
        requested=requested,
        target_recall=target_recall,
        tuning=_parse_tuning(stored.get("tuning"), kind),
        file=file,
    )


def _tuning_to_json(tuning: Tuning, kind: Kind | None) -> dict[str, Any]:
    return {
        "effort": tuning.parameters.value(kind),
        "per_image": tuning.refine_factor,
        "recall": tuning.recall,
        "phrases": tuning.phrases,
        "regions": tuning.regions,
        "trained_regions": tuning.trained_regions,
    }


def _parse_tuning(value: Any, kind: Kind) -> Tuning | None:
    if value is None:
        return None
    effort, refine_factor = int(value["effort"]), int(value["per_image"])
    if not (1 <= effort <= _MAX_EFFORT and 1 <= refine_factor <= _MAX_REFINE_FACTOR):
        raise ValueError("an impossible tuning")
    recall = None if value["recall"] is None else float(value["recall"])
    if recall is not None and not 0 <= recall <= 1:
        raise ValueError("an impossible recall")
    return Tuning(
        parameters=SearchParameters.for_kind(kind, effort),
        refine_factor=refine_factor,
        recall=recall,
        phrases=int(value["phrases"]),
        regions=int(value["regions"]),
        trained_regions=int(value["trained_regions"]),
    )
