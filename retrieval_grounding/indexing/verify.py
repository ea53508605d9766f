"""Verifying an index: everything on disk must be what was written, and agree."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.errors import StoreError
from ..core.progress import progress_bar
from ..core.reports import Fault, VerifyReport
from ..core.text import counted
from ..storage.catalog import Catalog
from ..storage.files import file_checksum
from ..storage.region_ids import split_region_ids
from ..storage.rows import LiveRow
from ..storage.shards import ShardReader, boxes_inside
from ..storage.vectors.load import load_vectors
from ..storage.vectors.metadata import read_metadata
from .image_passes import check_image_passes
from .model_spec import encoder_fingerprint
from .verify_feedback import check_feedback
from .verify_files import check_matcher, check_settings, folder_notes

__all__ = ["verify_index"]


_CHUNK = 1 << 16


def verify_index(catalog: Catalog, progress: bool | None = None) -> VerifyReport:
    """Check the catalog, every byte of every shard, the vector index and the matcher.

    Files left behind by a killed writer and a vector index older than the catalog are not faults:
    neither is used, and the next build replaces them.

    Raises
    ------
    StoreError
        If the catalog cannot be read, since the shards are checked against it.
    """
    problems = catalog.problems()
    files = catalog.shard_files()
    report = VerifyReport(catalog.counts()["images"], len(files))
    if problems:
        detail = "; ".join(problems[:3])
        report.faults.append(
            Fault("catalog.sqlite", "catalog", detail, "none: build the index again")
        )
        return report
    with progress_bar("Verifying", len(files), "shards", progress) as advance:
        for number, file in files.items():
            faults = list(_check_shard(catalog, number, file))
            if faults and number not in catalog.shard_files():
                faults = []  # compacted away since
            report.faults += faults
            advance(1)
    report.faults += check_matcher(catalog)
    report.faults += check_image_passes(catalog)
    report.faults += check_feedback(catalog)
    settings = list(check_settings(catalog))
    report.faults += settings
    if not settings and not any(fault.shard is not None for fault in report.faults):
        report.faults += _check_vectors(catalog)
    report.notes = folder_notes(catalog)
    return report


def _check_shard(catalog: Catalog, number: int, file: str) -> Iterator[Fault]:
    path = catalog.directory / "shards" / file
    live = catalog.live_rows(number)
    expected = catalog.shard_checksums().get(number)
    intact = False
    try:
        intact = file_checksum(path) == expected
        reader = ShardReader(path, number)
    except FileNotFoundError:
        yield _fault(path, number, "missing", "the file is gone", live, live)
        return
    except OSError as error:
        if error.errno != errno.EIO:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        yield _fault(path, number, "unreadable", "the disk cannot read it", live, live)
        return
    except StoreError as error:
        if intact and not isinstance(error.__cause__, (ValueError, LookupError, TypeError)):
            raise  # a newer format, or too little memory or too many open files
        yield _fault(path, number, "damaged", str(error.__cause__ or error), live, live)
        return
    displaced = [row for row in live if not _is_in(reader, row)]
    if not intact:
        rows = [row for row in live if row not in displaced]
        damaged = [row for row in rows if reader.row_checksum(row.row) != row.checksum]
        detail = "the checksum differs"
        yield _fault(path, number, "damaged", detail, live, displaced + damaged)
        return
    if displaced:
        yield _fault(path, number, "offsets", "rows differ from the catalog's", live, displaced)
        return
    yield from _check_values(catalog, reader, live)


def _check_values(catalog: Catalog, reader: ShardReader, live: list[LiveRow]) -> Iterator[Fault]:
    """Check the values in a shard whose bytes are as they were written."""
    path, number = reader.path, reader.number
    encoder = str(encoder_fingerprint(catalog))
    stored = (reader.detector, reader.encoder, reader.embeddings.shape[1])
    if stored != (catalog.setting("detector_fingerprint"), encoder, catalog.dimension):
        detail = f"written with {reader.detector} and {reader.encoder}"
        yield _fault(path, number, "fingerprint", detail, live, live)
        return
    for kind, detail, wrong in (
        ("boxes", "boxes extend beyond their images", _bad_boxes(reader)),
        ("scores", "scores are not between 0 and 1", ~(np.abs(reader.scores - 0.5) <= 0.5)),
        ("norms", "embeddings are not of unit length", _bad_norms(reader.embeddings)),
    ):
        rows = set(np.unique(reader.image_rows(np.flatnonzero(wrong))).tolist())
        if found := [row for row in live if row.row in rows]:
            yield _fault(path, number, kind, detail, live, found)


def _is_in(reader: ShardReader, row: LiveRow) -> bool:
    """Return whether a shard has the row that the catalog describes, with the same size."""
    if row.row >= len(reader.image_sizes):
        return False
    rows = reader.image_slice(row.row)
    size = tuple(reader.image_sizes[row.row].tolist())
    place = (rows.start, rows.stop - rows.start)
    return place == (row.first_region, row.regions) and size == (row.width, row.height)


def _bad_boxes(reader: ShardReader) -> npt.NDArray[np.bool_]:
    boxes = reader.boxes
    counts = np.diff(reader.image_offsets)
    sizes = reader.image_sizes
    wrong = ~boxes_inside(boxes, np.repeat(sizes, counts, axis=0))
    first = reader.image_offsets[:-1]
    whole = np.concatenate([np.zeros_like(sizes), sizes], axis=1).astype(np.float32)
    wrong[first[(boxes[first] != whole).any(axis=1)]] = True
    return wrong


def _bad_norms(embeddings: npt.NDArray[np.float16]) -> npt.NDArray[np.bool_]:
    parts = [
        np.linalg.norm(embeddings[start : start + _CHUNK].astype(np.float32), axis=1)
        for start in range(0, len(embeddings), _CHUNK)
    ]
    # Rounding to float16 changes each value by at most 2⁻¹¹ of itself, hence the length as well.
    wrong: npt.NDArray[np.bool_] = ~(np.abs(np.concatenate(parts) - 1) < 2e-3)
    return wrong


def _check_vectors(catalog: Catalog) -> Iterator[Fault]:
    metadata = read_metadata(catalog)
    path = catalog.directory / metadata.file
    if metadata.generation != catalog.generation or metadata.kind is None or not path.is_file():
        return
    repair = "rebuilt from the shards"
    loaded = load_vectors(catalog)
    if loaded is None:
        yield Fault(path.name, "damaged", "the checksum differs", repair)
        return
    index, _ = loaded
    ids = index.ids
    exact = index.kind != "ivf"
    ordered = ids if exact else np.sort(ids)
    files = catalog.shard_files()
    shards, _ = split_region_ids(ordered)
    count = 0
    for number, file in files.items():
        start, stop = np.searchsorted(shards, [number, number + 1]).tolist()
        count += stop - start
        reader = ShardReader(catalog.directory / "shards" / file, number)
        if not np.array_equal(ordered[start:stop], reader.ids):
            yield Fault(path.name, "ids", f"it does not contain shards/{file}", repair)
            return
        for first in range(start, stop if exact else start, _CHUNK):
            last = min(first + _CHUNK, stop)
            stored = reader.embeddings[first - start : last - start]
            if not np.array_equal(index.embeddings(first, last), stored):
                yield Fault(path.name, "vectors", f"they differ from shards/{file}", repair)
                return
    if count != len(ids):
        yield Fault(path.name, "ids", "it contains regions that no shard has", repair)


def _fault(
    path: Path, number: int, kind: str, detail: str, live: list[LiveRow], damaged: list[LiveRow]
) -> Fault:
    repair = f"{counted(len(live) - len(damaged), 'image')} kept"
    if damaged:
        repair += f", {len(damaged)} embedded again"
    detail = f"{detail}; {len(damaged)} of {counted(len(live), 'image')} affected"
    places = frozenset((row.shard, row.row) for row in damaged)
    return Fault(f"shards/{path.name}", kind, detail, repair, number, places)
