"""Switching an index to embeddings that are complete, and what else changes with them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..core.reports import SkippedFile
from ..core.types import RowKey
from ..matching.bundled import fits_nano
from ..matching.entries import matcher_entries, matcher_in_use
from ..matching.install import chosen_matcher
from ..matching.names import BUNDLED, COSINE, COSINE_LABEL
from ..models.encoder import Encoder, Fingerprint
from ..storage.catalog import Catalog
from ..storage.rows import LiveRow
from .model_spec import absolute_model, encoder_fingerprint
from .reembed_state import ReembedState

__all__ = ["ReembedReport", "row_name", "switch"]


@dataclass
class ReembedReport:
    """What renewing the embeddings of an index did.

    Parameters
    ----------
    encoder : str
        Fingerprint of the encoder that the index has now.
    images, regions : int
        How many have new embeddings.
    resumed : int
        Images that an earlier run had embedded, of these.
    dropped : list of SkippedFile
        Images that were removed, because they cannot be read or have changed, and why.
    notes : list of str
        What changed beside the embeddings, as sentences.
    seconds : float
        Duration.
    """

    encoder: str
    images: int = 0
    regions: int = 0
    resumed: int = 0
    dropped: list[SkippedFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def row_name(row: LiveRow) -> tuple[str, str]:
    """Return what names a row: its content, and what was known of it."""
    return row.content_hash, row.checksum


def switch(
    catalog: Catalog,
    state: ReembedState,
    encoder: Encoder,
    clip: str | None,
    rows: Sequence[LiveRow],
    report: ReembedReport,
) -> None:
    """Commit the new shards in place of all others."""
    settings = _settings(catalog, encoder, clip, report)
    first, folder = catalog.next_shard(), catalog.directory / "shards"
    catalog.check_lock()
    shards = [state.place(shard, folder, first + place) for place, shard in enumerate(state.shards)]
    places: dict[tuple[str, str], RowKey] = {}
    for new, shard in zip(shards, state.shards, strict=True):
        for row, key in enumerate(shard.names):
            places[key] = (new.number, row)
    moves = [
        ((row.shard, row.row), places[row_name(row)]) for row in rows if row_name(row) in places
    ]
    moved = {new for _, new in moves}
    report.images = len(moved)
    report.regions = sum(
        shard.rows[row].regions
        for shard in shards
        for row in range(len(shard.rows))
        if (shard.number, row) in moved
    )
    for file in catalog.replace_shards(shards, moves, settings):
        with contextlib.suppress(OSError):  # on Windows, while a reader maps it; it is swept later
            (folder / file).unlink()


def _settings(
    catalog: Catalog, encoder: Encoder, name: str | None, report: ReembedReport
) -> dict[str, Any]:
    """Return the settings that go with the new embeddings, and note what no longer fits."""
    return {
        "preset": None,
        "clip": absolute_model(name),
        "encoder_fingerprint": asdict(encoder.fingerprint),
        "dimension": encoder.dimension,
        # Fitted to the scores of the old embeddings.
        "cosine_calibration": None,
        "cosine_calibration_images": None,
        "calibrations": None,
        "matcher_in_use": _matcher_for(catalog, encoder.fingerprint, name, report),
        "vectors": _wanted_vectors(catalog),
    }


def _wanted_vectors(catalog: Catalog) -> dict[str, Any]:
    """Return what stays of the vector index: the kind and the recall that were asked for."""
    known = dict(catalog.setting("vectors") or {})
    return {key: known[key] for key in ("wanted", "target") if key in known}


def _matcher_for(
    catalog: Catalog, encoder: Fingerprint, clip: str | None, report: ReembedReport
) -> str | None:
    """Return the matcher to use with a new encoder, and note it if it is another one."""
    former = encoder_fingerprint(catalog)
    before = matcher_in_use(catalog, former)
    built_in = (BUNDLED, COSINE, COSINE_LABEL)
    default = BUNDLED if clip is not None or fits_nano(encoder) else COSINE
    advice = "; 'train' makes one for it"
    if before == BUNDLED and fits_nano(former) and not fits_nano(encoder):
        instead = "the bundled one for every encoder" if default == BUNDLED else COSINE
        report.notes.append(
            f"nano's matcher does not fit the new encoder, so {instead} is used{advice}"
        )
    if chosen_matcher(catalog) is None and before in built_in:
        return None  # the index follows its encoder
    entries = {entry.name: entry for entry in matcher_entries(catalog, encoder)}
    entry = entries.get(before)
    if entry is not None and not entry.problem:
        return before
    own = [name for name, other in entries.items() if not other.problem and name not in built_in]
    chosen = next(iter(own), default)
    report.notes.append(
        f"the matcher {before!r} does not fit the new encoder, so {chosen!r} is used{advice}"
    )
    return chosen
