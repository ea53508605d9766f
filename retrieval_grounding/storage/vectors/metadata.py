"""What the catalog remembers of the vector index."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..catalog import Catalog
from .kinds import KINDS, WANTED, Kind, Wanted

__all__ = ["DEFAULT_RECALL", "Tuning", "VectorRecord", "read_record", "write_record"]


DEFAULT_RECALL = 0.98
"""Share of the exact candidate images that an approximate index shall find."""

_SETTING = "vectors"


@dataclass(frozen=True)
class Tuning:
    """How an approximate index is searched, and what that finds.

    Parameters
    ----------
    effort : int
        Inverted lists visited, or width of the walk through a graph.
    per_image : int
        Regions that are re-scored for each candidate image that is wanted.
    recall : float or None
        Share of the exact candidate images found, for phrases that had no part in the choice;
        None where there was no phrase to measure with.
    phrases : int
        Phrases that it was measured with.
    regions : int
        Regions of the index then.
    trained_regions : int
        Regions of the index when its lists were placed.
    """

    effort: int
    per_image: int
    recall: float | None
    phrases: int
    regions: int
    trained_regions: int


@dataclass(frozen=True)
class VectorRecord:
    """The catalog's setting ``vectors``.

    Parameters
    ----------
    generation : int
        Of the catalog for which ``vectors.faiss`` was written; -1 if there is none.
    checksum : str or None
        BLAKE2b-128 of that file.
    kind : str or None
        ``"flat"``, ``"ivf"`` or ``"hnsw"``; None if there is none, or of a release before kinds.
    shards : tuple of int
        Shards of which it has all rows.
    wanted : str
        The kind that was asked for, ``"auto"`` unless somebody did.
    target : float
        Recall to reach.
    tuning : Tuning or None
        Of an approximate kind.
    """

    generation: int = -1
    checksum: str | None = None
    kind: Kind | None = None
    shards: tuple[int, ...] = field(default=())
    wanted: Wanted = "auto"
    target: float = DEFAULT_RECALL
    tuning: Tuning | None = None


def read_record(catalog: Catalog) -> VectorRecord:
    """Return what the catalog remembers of the vector index.

    Raises
    ------
    StoreError
        If that is damaged.
    """
    return catalog.parsed(_SETTING, _parse)


def write_record(catalog: Catalog, record: VectorRecord) -> None:
    """Let the catalog remember the vector index."""
    catalog.set_setting(_SETTING, asdict(record))


def _parse(value: Any) -> VectorRecord:
    stored = dict(value or {})
    kind = stored.get("kind")
    if kind not in KINDS:  # of a release before kinds, whose file held other rows
        kept = ("wanted", "target")
        stored, kind = {name: stored[name] for name in kept if name in stored}, None
    wanted, target = stored.get("wanted", "auto"), float(stored.get("target", DEFAULT_RECALL))
    if wanted not in WANTED or not 0 < target <= 1:
        raise ValueError("impossible wishes")
    checksum = stored.get("checksum")
    return VectorRecord(
        generation=int(stored.get("generation", -1)),
        checksum=None if checksum is None else str(checksum),
        kind=kind,
        shards=tuple(int(number) for number in stored.get("shards", ())),
        wanted=wanted,
        target=target,
        tuning=_parse_tuning(stored.get("tuning")),
    )


def _parse_tuning(value: Any) -> Tuning | None:
    if value is None:
        return None
    numbers = {
        name: int(value[name])
        for name in ("effort", "per_image", "phrases", "regions", "trained_regions")
    }
    if min(numbers["effort"], numbers["per_image"]) < 1:
        raise ValueError("an impossible tuning")
    recall = value["recall"]
    return Tuning(recall=None if recall is None else float(recall), **numbers)
