"""Keeping image passes in step with shards and matcher: writing, dropping and checking them.

They are derived from both, so whatever is missing or wrong is left out or removed, never an error:
queries compute it from the regions then.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ..core.errors import StoreError
from ..core.progress import progress_bar
from ..core.reports import Fault
from ..core.threads import single_thread
from ..matching.entries import matcher_in_use
from ..matching.load import load_index_matcher
from ..matching.names import BUNDLED, COSINE, COSINE_LABEL, matcher_files
from ..matching.pass_record import (
    PASS_FILES,
    PASS_FOLDER,
    PassRecord,
    read_record,
    write_record,
)
from ..models.presets import bundled_path
from ..storage.catalog import Catalog
from ..storage.files import file_checksum, is_plain
from ..storage.open_catalog import CATALOG_FILE
from ..storage.region_store import RegionStore
from .model_spec import encoder_fingerprint

__all__ = [
    "check_image_passes",
    "drop_image_passes",
    "forget_image_passes",
    "is_recorded_pass",
    "sync_image_passes",
]

_log = logging.getLogger(__name__)

_SHARDS_PER_COMMIT = 16
_FREE_BYTES = 1 << 28  # to be left on the disk
_SPARE = 2.0


def sync_image_passes(catalog: Catalog, progress: bool | None = None) -> None:
    """Write the image passes that are missing, and drop those of other matchers and shards.

    The caller holds the writer's lock. Nothing is written where the disk is nearly full; a failure
    is logged.

    Parameters
    ----------
    catalog : Catalog
        Opened for writing.
    progress : bool, optional
        Show a progress bar; None shows it on a terminal.
    """
    record = _recorded(catalog) or PassRecord()
    source, shards = _matcher_source(catalog), catalog.shard_files()
    known = {shard: own for shard, own in record.checksums.items() if shard in shards}
    missing = sorted(shards.keys() - known.keys())
    changed = record.source != source
    record = replace(record, source=source, checksums=known)
    if changed or (missing and record.matcher is not None):
        record = _write(catalog, record, missing, progress)
    if record != _recorded(catalog):
        write_record(catalog, record)
    drop_image_passes(catalog)


def _matcher_source(catalog: Catalog) -> str:
    """Return the checksum of the file of the matcher in use, without PyTorch, or its name."""
    name = matcher_in_use(catalog, encoder_fingerprint(catalog))
    if name in (COSINE, COSINE_LABEL):
        return name
    bundled = name == BUNDLED
    path = bundled_path("matcher") if bundled else catalog.directory / matcher_files(name)[0]
    try:
        return file_checksum(path)
    except (OSError, StoreError):  # another one is used instead
        return name


def _recorded(catalog: Catalog) -> PassRecord | None:
    try:
        return read_record(catalog)
    except StoreError:
        return None


def _write(
    catalog: Catalog, record: PassRecord, missing: Sequence[int], progress: bool | None
) -> PassRecord:
    """Write the passes of `missing` shards, and return the new record."""
    from ..matching.trained import TrainedMatcher  # a command that writes none needs no PyTorch

    matcher = load_index_matcher(catalog, encoder_fingerprint(catalog), "cpu")
    if not isinstance(matcher, TrainedMatcher) or not matcher.exits_early:
        return replace(record, matcher=None, checksums={})
    if matcher.identity != record.matcher:
        record = replace(record, matcher=matcher.identity, checksums={})
        missing = sorted(catalog.shard_files())
    from ..matching.pass_file import pass_bytes

    regions = catalog.shard_regions()
    needed = sum(pass_bytes(regions.get(shard, 0), matcher.config.width) for shard in missing)
    try:
        free = shutil.disk_usage(catalog.directory).free
    except OSError:
        free = 0
    if free < _SPARE * needed + _FREE_BYTES:
        _log.info(
            "image passes of %d MiB are not kept, because %d MiB are free; queries are slower",
            needed >> 20,
            free >> 20,
        )
        return record
    store, checksums = RegionStore(catalog), catalog.shard_checksums()
    written = dict(record.checksums)
    with progress_bar("Preparing queries", len(missing), "shards", progress) as advance:
        for shard in missing:
            try:
                made = _write_one(matcher, store, catalog, record, shard, checksums[shard])
            except OSError as error:
                _log.info("image passes cannot be written (%s); queries are slower", error)
                break
            if made is not None:
                written[shard] = made
            advance(1)
            if len(written) % _SHARDS_PER_COMMIT == 0:
                write_record(catalog, replace(record, checksums=written))
    store.close()
    return replace(record, checksums=written)


def _write_one(
    matcher: object, store: RegionStore, catalog: Catalog, record: PassRecord, shard: int,
    shard_checksum: str,
) -> str | None:  # fmt: skip
    """Write the pass of one shard; return its checksum, or None if it has none."""
    from ..matching.pass_file import PassOrigin, write_pass
    from ..matching.trained import TrainedMatcher

    assert isinstance(matcher, TrainedMatcher) and record.matcher is not None
    try:
        images = len(store.open_shard(shard).image_sizes)
        table = store.gather([(shard, row) for row in range(images)])
    except StoreError as error:  # damaged, which verifying reports
        _log.info("no image pass is kept of shard %d: %s", shard, error)
        return None
    with single_thread():
        known = matcher.encode_pass(table)
    if known is None:
        return None
    path = record.path(catalog.directory, shard)
    path.parent.mkdir(exist_ok=True)
    catalog.check_lock()
    return write_pass(path, known, PassOrigin(shard_checksum, record.matcher))


def drop_image_passes(catalog: Catalog) -> None:
    """Delete the files of image passes that the catalog does not record."""
    record = _recorded(catalog) or PassRecord()
    folder = catalog.directory / PASS_FOLDER
    if not folder.is_dir() or folder.is_symlink():
        return
    for path in folder.iterdir():
        name = PASS_FILES.fullmatch(path.name)
        if name and not is_recorded_pass(catalog.directory, record, path) and is_plain(path):
            # Deleting fails on Windows while a reader has the file mapped; the next writer does it.
            with contextlib.suppress(OSError):
                path.unlink()


def is_recorded_pass(directory: Path, record: PassRecord, path: Path) -> bool:
    """Return whether a file is an image pass that the catalog records."""
    name = PASS_FILES.fullmatch(path.name)
    shard = int(name[1]) if name else 0
    return shard in record.checksums and path.name == record.path(directory, shard).name


def forget_image_passes(catalog: Catalog) -> None:
    """Forget all image passes and delete their files; the caller holds the writer's lock."""
    write_record(catalog, PassRecord())
    drop_image_passes(catalog)


def check_image_passes(catalog: Catalog) -> Iterator[Fault]:
    """Check the files of image passes against the checksums in the catalog."""
    try:
        record = read_record(catalog)
    except StoreError as error:
        yield Fault(CATALOG_FILE, "passes", str(error), "removed; a build writes new ones")
        return
    for shard, checksum in record.checksums.items():
        path = record.path(catalog.directory, shard)
        problem = ""
        try:
            if not os.path.lexists(path):
                problem = "the file is gone"
            elif file_checksum(path) != checksum:
                problem = "the checksum differs"
        except StoreError:
            problem = "it is not a plain file"
        except OSError as error:
            problem = f"it cannot be read: {error.strerror}"
        if problem:
            where = f"{PASS_FOLDER}/{path.name}"
            yield Fault(where, "passes", problem, "removed; a build writes a new one")
