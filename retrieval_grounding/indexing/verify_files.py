"""Verifying what an index holds besides shards: matcher, calibration, and everything else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import ModelError, StoreError
from ..core.reports import Fault
from ..matching.calibrate import forget_cosine_calibration, read_cosine_calibration
from ..matching.collection import forget_calibrations, read_calibrations
from ..matching.install import (
    CHECKPOINT_FILE,
    chosen_matcher,
    forget_files,
    recorded_checksums,
)
from ..matching.names import EARLIER, FOLDER, matcher_files, name_of_file
from ..matching.pass_record import PASS_FILES, PASS_FOLDER, read_record
from ..storage.catalog import Catalog
from ..storage.feedback_file import FEEDBACK_FILE, FEEDBACK_LOCK
from ..storage.files import as_store_error, file_checksum, is_plain, is_temporary
from ..storage.open_catalog import CATALOG_FILE
from ..storage.shard_format import SHARD_FILES
from ..storage.vectors.metadata import VECTORS_FILES, VectorMetadata, read_metadata, write_metadata
from .image_passes import forget_image_passes
from .model_spec import encoder_fingerprint
from .verify_feedback import repair_feedback

__all__ = ["ASIDE_SUFFIX", "check_matcher", "check_settings", "folder_notes", "repair_files"]


ASIDE_SUFFIX = ".damaged"

_SHARDS = "shards"
_KNOWN = frozenset(
    (
        CATALOG_FILE, f"{CATALOG_FILE}-journal", _SHARDS, FOLDER, PASS_FOLDER, ".writer.lock",
        ".writer.json", CHECKPOINT_FILE, FEEDBACK_FILE, FEEDBACK_LOCK,
    )
)  # fmt: skip
_CALIBRATION, _VECTORS, _MATCHER, _CHOICE = "calibration", "vectors", "matcher", "matcher-in-use"
_PASSES = "passes"
_CURVE = re.compile(r"(.+)-curve\.(?:csv|png)")


def check_settings(catalog: Catalog) -> Iterator[Fault]:
    """Check the settings of the catalog that hold measured values."""
    for kind, read, repair in (
        (_CALIBRATION, read_cosine_calibration, "removed; a build fits a new one"),
        (_CALIBRATION, read_calibrations, "removed; 'calibrate' fits new ones"),
        (_VECTORS, read_metadata, "the vector index is rebuilt from the shards"),
        (_MATCHER, recorded_checksums, "removed; the matchers' files are moved aside"),
        (_CHOICE, chosen_matcher, "removed; the index uses what it finds"),
    ):
        try:
            read(catalog)
        except StoreError as error:
            yield Fault(CATALOG_FILE, kind, str(error), repair)


def check_matcher(catalog: Catalog) -> Iterator[Fault]:
    """Check the matchers and the files of their learning curves."""
    try:
        recorded = recorded_checksums(catalog)
        chosen = chosen_matcher(catalog)
    except StoreError:  # reported by check_settings
        return
    found = _matchers_files(catalog.directory)
    for name in found:
        if problem := _problem(catalog, name, recorded.get(name, [])):
            yield Fault(name, "damaged", problem, f"moved aside, as {name}{ASIDE_SUFFIX}")
    file = matcher_files(chosen or EARLIER)[0]
    if chosen is not None and file in recorded and file not in found:
        yield Fault(file, "missing", "the matcher in use is gone", "the index uses what it finds")


def _matchers_files(directory: Path) -> list[str]:
    """Return what lies in the places of matchers' files, relative to the index, sorted.

    Of each matcher the learning curve comes first, as in the order of names.
    """
    names = [name for name in matcher_files(EARLIER) if os.path.lexists(directory / name)]
    folder = directory / FOLDER
    if folder.is_symlink() or (os.path.lexists(folder) and not folder.is_dir()):
        return [*names, FOLDER]
    if folder.is_dir():
        inside = (f"{FOLDER}/{path.name}" for path in folder.iterdir())
        names += [name for name in inside if _matcher_of(name) is not None]
    return sorted(names)


def _matcher_of(file: str) -> str | None:
    """Return the matcher that a file belongs to by its name, or None."""
    curve = _CURVE.fullmatch(file)
    return name_of_file(f"{curve[1]}.safetensors" if curve else file)


def _problem(catalog: Catalog, name: str, checksums: list[str]) -> str:
    """Return what is wrong with a file of a matcher; empty if nothing is."""
    path = catalog.directory / name
    if not is_plain(path):
        return "it is not a plain file"
    try:
        if checksums and file_checksum(path) not in checksums:
            return "the checksum differs"
        if name_of_file(name) is not None:
            from ..matching.stored import load_stored

            load_stored(path, "cpu").network.check(encoder_fingerprint(catalog))
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
    found = _matchers_files(directory)
    for name in sorted({*found, *recorded}):
        if name not in found:
            notes.append(f"{name}: it was trained here, and is gone")
        elif name not in recorded and (directory / name).is_file():
            notes.append(f"{name}: not trained here by this release, so it has no checksum")
    if (directory / CHECKPOINT_FILE).exists():
        notes.append(f"{CHECKPOINT_FILE}: an unfinished training, which resumes if it is repeated")
    shards = {f"{_SHARDS}/{file}" for file in catalog.shard_files().values()}
    known = {*_KNOWN, *shards, *found, *_recorded_passes(catalog), vectors}
    for folder in (directory, directory / FOLDER, directory / _SHARDS, directory / PASS_FOLDER):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            name = path.relative_to(directory).as_posix()
            if name in known:
                continue
            leftover = is_temporary(path.name)
            leftover |= folder.name == _SHARDS and SHARD_FILES.fullmatch(path.name) is not None
            leftover |= folder.name == PASS_FOLDER and PASS_FILES.fullmatch(path.name) is not None
            leftover |= VECTORS_FILES.fullmatch(name) is not None
            original = name.removesuffix(ASIDE_SUFFIX)
            if name != original and (original == FEEDBACK_FILE or _matcher_of(original)):
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
    return {
        f"{PASS_FOLDER}/{record.path(catalog.directory, shard).name}" for shard in record.checksums
    }


def repair_files(catalog: Catalog, faults: list[Fault]) -> None:
    """Move damaged files of the matcher aside, drop image passes, and reset damaged settings.

    The caller holds the writer's lock.
    """
    kinds = {fault.kind for fault in faults if fault.where == CATALOG_FILE}
    if _CHOICE in kinds:
        catalog.set_setting("matcher_in_use", None)
    damaged = {fault.where for fault in faults} & set(_matchers_files(catalog.directory))
    if _MATCHER in kinds:
        damaged = set(_matchers_files(catalog.directory))
        forget_files(catalog)
    else:
        # A matcher whose weights are damaged is moved aside with its learning curve.
        names = {name for file in damaged if (name := name_of_file(file)) is not None}
        damaged |= {f for f in _matchers_files(catalog.directory) if _matcher_of(f) in names}
        gone = {fault.where for fault in faults if fault.kind == "missing"}
        if damaged or gone:
            forget_files(catalog, damaged | gone)
    for name in sorted(damaged):
        path = catalog.directory / name
        if os.path.lexists(path):
            with as_store_error(path):
                path.replace(path.with_name(path.name + ASIDE_SUFFIX))
    if any(fault.where == FEEDBACK_FILE for fault in faults):
        repair_feedback(catalog)
    if _CALIBRATION in kinds:
        forget_cosine_calibration(catalog)
        forget_calibrations(catalog)
    if any(fault.kind == _PASSES for fault in faults):
        forget_image_passes(catalog)
    if _VECTORS in kinds:
        write_metadata(catalog, VectorMetadata())
