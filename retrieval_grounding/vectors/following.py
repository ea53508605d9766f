"""The vector index follows the catalog: what is new is added, what is unused is removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import StoreError
from ..storage.catalog import Catalog
from ..storage.files import as_store_error, file_checksum
from ..storage.shards import ShardReader, region_ids, split_region_ids
from .flat import FlatVectorIndex

__all__ = ["VECTORS_FILE", "follow", "live_ids", "load_vectors", "refresh_vectors", "saved_vectors"]

VECTORS_FILE = "vectors.faiss"


def refresh_vectors(catalog: Catalog) -> None:
    """Bring ``vectors.faiss`` to the catalog's present state; the caller holds the lock."""
    saved = saved_vectors(catalog)
    path = catalog.directory / VECTORS_FILE
    if saved.get("generation") == catalog.generation and path.is_file():
        return
    vectors = load_vectors(catalog)
    present = saved.get("checksum") if vectors is not None else None
    vectors, generation, changed = follow(catalog, vectors)
    if changed or present is None:
        with as_store_error(path):
            vectors.save(path)
            present = file_checksum(path)
    catalog.set_setting("vectors", {"generation": generation, "checksum": present})


def saved_vectors(catalog: Catalog) -> dict[str, Any]:
    """Return for which generation ``vectors.faiss`` was written, and its checksum."""
    return catalog.parsed("vectors", lambda value: dict(value or {}))


def load_vectors(catalog: Catalog) -> FlatVectorIndex | None:
    """Return what ``vectors.faiss`` holds, or None if it is missing or not as it was written.

    It may be older than the catalog: :func:`follow` brings it up to date.
    """
    saved = saved_vectors(catalog)
    path: Path = catalog.directory / VECTORS_FILE
    try:
        with path.open("rb") as file:
            if file_checksum(file) != saved.get("checksum"):
                return None
            file.seek(0)
            return FlatVectorIndex.load(file, catalog.dimension)
    except (OSError, StoreError):  # it is only a copy; the shards have everything
        return None


def follow(catalog: Catalog, vectors: FlatVectorIndex | None) -> tuple[FlatVectorIndex, int, bool]:
    """Let a vector index hold exactly the regions of the catalog's images.

    The result is the same as that of indexing all shards anew, the order of vectors included.

    Parameters
    ----------
    catalog : Catalog
        Says which regions there are.
    vectors : FlatVectorIndex or None
        What is known from before; changed in place.

    Returns
    -------
    FlatVectorIndex, int, bool
        With the catalog's generation to which it belongs, and whether anything had to be changed.

    Raises
    ------
    StoreError
        If a shard is missing or damaged, or was compacted away meanwhile.
    """
    with catalog.reading():
        generation, files = catalog.generation, catalog.shard_files()
        live = live_ids(catalog)
    known = np.zeros(0, np.int64) if vectors is None else vectors.ids
    new = np.setdiff1d(live, known, assume_unique=True)
    unused = np.setdiff1d(known, live, assume_unique=True)
    if vectors is None or (len(new) and len(known) and new[0] < known[-1]):
        # Rows have come back into use; appended they would be out of order.
        vectors, new = FlatVectorIndex(catalog.dimension), live
    else:
        vectors.remove(unused)
    shards, rows = split_region_ids(new)
    for number in np.unique(shards).tolist():
        start, stop = np.searchsorted(shards, [number, number + 1]).tolist()
        reader = ShardReader(catalog.directory / "shards" / files[number], number)
        if rows[stop - 1] >= len(reader.embeddings):
            raise StoreError(
                f"the shard {reader.path} has fewer regions than the catalog says; run "
                f"'retrieval-grounding verify {catalog.directory} --repair'"
            )
        vectors.add(reader.embeddings[rows[start:stop]], new[start:stop])
    return vectors, generation, bool(len(new) or len(unused))


def live_ids(catalog: Catalog) -> npt.NDArray[np.int64]:
    """Return the ids of all regions that images have, in ascending order."""
    table = catalog.live_regions()
    counts = table[:, 2]
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return region_ids(np.repeat(table[:, 0], counts), np.repeat(table[:, 1], counts) + inside)
