"""Verifying what an index holds besides shards: matcher, calibration, and everything else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import ModelError, StoreError
from ..core.reports import Fault
from ..matching.calibrate import forget_cosine_calibration, read_cosine_calibration
from ..matching.collection import forget_calibrations, read_calibrations
from ..matching.install import (
    CHECKPOINT_FILE,
    CURVE_FILES,
    MATCHER_FILE,
    forget_files,
    recorded_checksums,
)
from ..matching.pass_record import PASS_FILES, PASS_FOLDER, read_record
from ..storage.catalog import Catalog
from ..storage.files import as_store_error, file_checksum, is_plain, is_temporary
from ..storage.open_catalog import CATALOG_FILE
from ..storage.shard_format import SHARD_FILES
from ..storage.vectors.metadata import VECTORS_FILES, VectorMetadata, read_metadata, write_metadata
from .image_passes import forget_image_passes
from .model_spec import encoder_fingerprint

__all__ = ["ASIDE_SUFFIX", "check_matcher", "check_settings", "folder_notes", "repair_files"]


ASIDE_SUFFIX = ".damaged"

_SHARDS = "shards"
_MATCHER_FILES = (MATCHER_FILE, *CURVE_FILES)
_KNOWN = frozenset(
    (
        CATALOG_FILE, f"{CATALOG_FILE}-journal", _SHARDS, PASS_FOLDER, ".writer.lock",
        ".writer.json", CHECKPOINT_FILE, *_MATCHER_FILES,
    )
)  # fmt: skip
_CALIBRATION, _VECTORS, _MATCHER = "calibration", "vectors", "matcher"
_PASSES = "passes"


def check_settings(catalog: Catalog) -> Iterator[Fault]:
    """Check the settings of the catalog that hold measured values."""
    for kind, read, repair in (
        (_CALIBRATION, read_cosine_calibration, "removed; a build fits a new one"),
        (_CALIBRATION, read_calibrations, "removed; 'calibrate' fits new ones"),
        (_VECTORS, read_metadata, "the vector index is rebuilt from the shards"),
        (_MATCHER, recorded_checksums, "removed; the matcher's files are moved aside"),
    ):
        try:
            read(catalog)
        except StoreError as error:
            yield Fault(CATALOG_FILE, kind, str(error), repair)


def check_matcher(catalog: Catalog) -> Iterator[Fault]:
    """Check the matcher and the files of its learning curve."""
    try:
        recorded = recorded_checksums(catalog)
    except StoreError:  # reported by check_settings
        return
    for name in _MATCHER_FILES:
        path = catalog.directory / name
        if not os.path.lexists(path):
            continue
        if problem := _problem(catalog, path, recorded.get(name, [])):
            yield Fault(name, "damaged", problem, f"moved aside, as {name}{ASIDE_SUFFIX}")


def _problem(catalog: Catalog, path: Path, checksums: list[str]) -> str:
    """Return what is wrong with a file of the matcher; empty if nothing is."""
    if not is_plain(path):
        return "it is not a plain file"
    try:
        if checksums and file_checksum(path) not in checksums:
            return "the checksum differs"
        if path.name == MATCHER_FILE:
            from ..matching.trained import TrainedMatcher

            TrainedMatcher.load(path, "cpu").check(encoder_fingerprint(catalog))
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except ModelError as error:
        return str(error.__cause__ or error)
    return ""


def folder_notes(catalog: Catalog) -> list[str]:
    """Return notes on the files of the folder that cannot be checked or do not belong to it."""
    directory = catalog.directory
    notes = []
    try:
        recorded, vectors = recorded_checksums(catalog), read_metadata(catalog).file
    except StoreError:  # reported by check_settings
        recorded, vectors = {}, ""
    for name in _MATCHER_FILES:
        if name in recorded and not os.path.lexists(directory / name):
            notes.append(f"{name}: it was trained here, and is gone")
        elif name not in recorded and (directory / name).is_file():
            notes.append(f"{name}: not trained here by this release, so it has no checksum")
    if (directory / CHECKPOINT_FILE).exists():
        notes.append(f"{CHECKPOINT_FILE}: an unfinished training, which resumes if it is repeated")
    shards = set(catalog.shard_files().values())
    passes = _recorded_passes(catalog)
    for folder, known in (
        (directory, _KNOWN), (directory / _SHARDS, shards), (directory / PASS_FOLDER, passes),
    ):  # fmt: skip
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            name = path.relative_to(directory).as_posix()
            if path.name in known or name == vectors:
                continue
            leftover = is_temporary(path.name)
            leftover |= folder.name == _SHARDS and SHARD_FILES.fullmatch(path.name) is not None
            leftover |= folder.name == PASS_FOLDER and PASS_FILES.fullmatch(path.name) is not None
            leftover |= VECTORS_FILES.fullmatch(name) is not None
            if path.name.removesuffix(ASIDE_SUFFIX) in _MATCHER_FILES:
                notes.append(f"{name}: moved aside by a repair")
            elif leftover:
                notes.append(f"{name}: left over from a killed writer; the next one deletes it")
            else:
                notes.append(f"{name}: not a part of the index")
    return notes


def _recorded_passes(catalog: Catalog) -> set[str]:
    try:
        record = read_record(catalog)
    except StoreError:  # reported by check_image_passes
        return set()
    return {record.path(catalog.directory, shard).name for shard in record.checksums}


def repair_files(catalog: Catalog, faults: list[Fault]) -> None:
    """Move damaged files of the matcher aside, drop image passes, and reset damaged settings.

    The caller holds the writer's lock.
    """
    kinds = {fault.kind for fault in faults if fault.where == CATALOG_FILE}
    damaged = {fault.where for fault in faults} & set(_MATCHER_FILES)
    if _MATCHER in kinds or MATCHER_FILE in damaged:
        damaged = set(_MATCHER_FILES)
        forget_files(catalog)
    for name in sorted(damaged):
        path = catalog.directory / name
        if os.path.lexists(path):
            with as_store_error(path):
                path.replace(path.with_name(name + ASIDE_SUFFIX))
    if _CALIBRATION in kinds:
        forget_cosine_calibration(catalog)
        forget_calibrations(catalog)
    if any(fault.kind == _PASSES for fault in faults):
        forget_image_passes(catalog)
    if _VECTORS in kinds:
        write_metadata(catalog, VectorMetadata())
