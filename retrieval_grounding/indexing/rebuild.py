"""Rebuilding a lost catalog from the shards, which know the content of each image but no paths."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import StoreError
from ..storage.catalog import Catalog
from ..storage.files import file_checksum
from ..storage.lock import WriterLock
from ..storage.rows import NewShard, StoredRow
from ..storage.shards import ShardReader
from .place import REBUILDING

__all__ = ["finish_rebuild", "rebuild_catalog"]

_GROUPS = " groups=1"  # in the fingerprint of a detector
_LOGGER = logging.getLogger(__name__)


def rebuild_catalog(
    directory: Path, settings: dict[str, Any], fingerprints: list[str], lock: WriterLock
) -> Catalog:
    """Create a catalog that lists the shards in `directory`, but no images yet.

    A build then finds each file's regions by the hash of its content and embeds nothing.

    Parameters
    ----------
    directory : Path
        A folder with shards and without a catalog.
    settings : dict
        Of the new catalog.
    fingerprints : list of str
        Of the detector and the encoder in `settings`.
    lock : WriterLock
        The writer's lock, which the caller holds.

    Raises
    ------
    StoreError
        If a shard is damaged, is from different models, or does not know its images. Then nothing
        has been written.
    """
    for reader in _readers(directory):
        _check(reader, directory, fingerprints)
    catalog = Catalog.create(directory, settings | {REBUILDING: True}, lock=lock)
    with contextlib.ExitStack() as failing:
        failing.callback(catalog.close)
        finish_rebuild(catalog)
        failing.pop_all()
    return catalog


def finish_rebuild(catalog: Catalog) -> None:
    """Add the shards that a catalog lacks, if it is being rebuilt; a killed rebuild resumes."""
    if not catalog.setting(REBUILDING):
        return
    known = catalog.shard_files()
    for reader in _readers(catalog.directory):
        if reader.number not in known:
            catalog.commit(shard=_as_new(reader))
    catalog.set_setting(REBUILDING, False)
    _LOGGER.warning(
        "the catalog of %s was lost and has been rebuilt from %d shards; images that had been "
        "removed return, and a vector index of another kind has to be asked for again",
        catalog.directory,
        len(catalog.shard_files()),
    )


def _readers(directory: Path) -> Iterator[ShardReader]:
    for path in sorted((directory / "shards").glob("*.h5"), key=lambda path: int(path.stem)):
        yield ShardReader(path, int(path.stem))


def _check(reader: ShardReader, directory: Path, fingerprints: list[str]) -> None:
    way_out = f"move {directory / 'shards'} to a different folder and build again"
    if reader.content_hashes is None:
        raise StoreError(
            f"the catalog of {directory} is lost, and its shards do not say which images they are "
            f"about; restore catalog.sqlite from a backup, or {way_out}"
        )
    if [reader.detector, reader.encoder] != fingerprints:
        if [reader.detector, reader.encoder] == [
            fingerprints[0].replace(_GROUPS, ""),
            fingerprints[1],
        ]:
            raise StoreError(
                f"the catalog of {directory} is lost, and its shards have no groups; build with "
                "--no-groups (in Python: DetectorSettings(groups=False))"
            )
        raise StoreError(
            f"the catalog of {directory} is lost, and its shards are from {reader.detector} and "
            f"{reader.encoder}; build with these models, or {way_out}"
        )


def _as_new(reader: ShardReader) -> NewShard:
    assert reader.content_hashes is not None
    sizes = reader.image_sizes.tolist()
    rows = []
    for row, (content_hash, (width, height)) in enumerate(
        zip(reader.content_hashes, sizes, strict=True)
    ):
        place = reader.image_slice(row)
        regions = place.stop - place.start
        checksum = reader.row_checksum(row)
        rows.append(StoredRow(content_hash, width, height, regions, checksum))
    return NewShard(reader.number, reader.path.name, file_checksum(reader.path), rows)
