"""Loading the vector index from the file that the catalog names."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...core.errors import StoreError
from ..catalog import Catalog
from ..files import file_checksum, open_regular
from ..region_ids import region_ids
from .faiss_index import FaissIndex
from .kinds import Kind
from .metadata import VectorMetadata, read_metadata

__all__ = ["load_vectors", "vectors_path"]

_LOGGER = logging.getLogger(__name__)


def load_vectors(
    catalog: Catalog, *, mapped: bool = False
) -> tuple[FaissIndex, VectorMetadata] | None:
    """Return the vector index and its metadata, or None if the file is missing or damaged.

    It may be older than the catalog. FAISS does not validate what it reads, so the checksum is
    compared first; that reads the file into the page cache, not into the process.

    Parameters
    ----------
    catalog : Catalog
        Catalog of the index.
    mapped : bool
        Map the file into memory if its kind allows it, and let searches be restricted; the index
        must not be changed then.
    """
    while True:
        metadata = read_metadata(catalog)
        if metadata.kind is None:
            return None
        path = catalog.directory / metadata.file
        try:
            index = _load(path, metadata, catalog.dimension, mapped)
            _check_regions(index, metadata, catalog.shard_regions())
            if mapped:
                index.prepare_selections()
        except (OSError, StoreError) as error:  # it is only a copy: the shards have every vector
            if read_metadata(catalog) != metadata:  # a writer has replaced the file meanwhile
                continue
            _report(path, error)
            return None
        return index, metadata


def vectors_path(catalog: Catalog) -> Path:
    """Return the path of the current vector index, whose file may be missing."""
    return catalog.directory / read_metadata(catalog).file


def _load(path: Path, metadata: VectorMetadata, dimension: int, mapped: bool) -> FaissIndex:
    assert metadata.kind is not None
    with open_regular(path) as file:
        if file_checksum(file) != metadata.checksum:
            raise StoreError("its checksum is wrong")
        file.seek(0)
        index = _read(metadata.kind, path, file, dimension, mapped)
    if metadata.tuning is not None:
        index.parameters = metadata.tuning.parameters
    return index


def _report(path: Path, error: OSError | StoreError) -> None:
    """Warn that queries will be slow; too many open files are an error, because they will end."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        raise StoreError(
            f"{path} cannot be opened, because too many files are open; raise the limit with "
            "'ulimit -n'"
        ) from error
    _LOGGER.warning(
        "%s cannot be used (%s); until it is rebuilt, queries compare every region",
        path,
        getattr(error, "strerror", None) or error,
    )


def _read(kind: Kind, path: Path, file: BinaryIO, dimension: int, mapped: bool) -> FaissIndex:
    """Read the checked, open file, or map it by its path."""
    if mapped and str(path).isascii():  # FAISS opens paths with C's fopen
        index = FaissIndex.load(kind, path, dimension)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return index
        # A writer has replaced the file since it was checked.
    return FaissIndex.load(kind, file, dimension)


def _check_regions(index: FaissIndex, metadata: VectorMetadata, regions: dict[int, int]) -> None:
    """Refuse an index that does not hold the regions of its shards, as far as these still exist."""
    shards = sorted(set(metadata.shards))
    if not all(number in regions for number in shards):
        return
    wrong = StoreError("it does not hold the regions of its shards")
    counts = [regions[number] for number in shards]
    if sum(counts) != len(index):
        raise wrong
    if index.kind == "ivf":  # its ids are in the order of its lists
        return
    ids, start = index.ids, 0
    for number, count in zip(shards, counts, strict=True):
        part = ids[start : start + count]
        if not np.array_equal(part, region_ids(number, np.arange(count, dtype=np.int64))):
            raise wrong
        start += count
