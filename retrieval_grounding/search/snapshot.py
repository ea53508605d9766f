"""Snapshots: what a search reads while the catalog keeps one generation."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from ..storage.vectors.exact import StoredVectors
from ..storage.vectors.faiss_index import FaissIndex
from ..storage.vectors.gpu import gpu_search
from ..storage.vectors.metadata import VectorRecord, read_record
from ..storage.vectors.search import VectorSearch
from ..storage.vectors.sync import load_vectors

__all__ = ["Snapshot", "SnapshotCache"]


@dataclass(frozen=True)
class Snapshot:
    """The vectors of one generation of the catalog; never changed.

    Parameters
    ----------
    generation : int
        Of the catalog.
    vectors : VectorSearch
        Finds the nearest regions of a phrase.
    index : FaissIndex or None
        The vector index that `vectors` searches; None where it compares every region.
    record : VectorRecord
        How the index was built.
    """

    generation: int
    vectors: VectorSearch
    index: FaissIndex | None
    record: VectorRecord


class SnapshotCache:
    """Keeps the newest snapshot of an index; threads may share it.

    Parameters
    ----------
    catalog : Catalog
        Says which shards and which vector index there are.
    store : RegionStore
        Opens the shards.
    device : str
        ``"cuda"`` lets FAISS search on the GPUs, if the GPU package is installed.
    """

    def __init__(self, catalog: Catalog, store: RegionStore, device: str) -> None:
        self._catalog = catalog
        self._store = store
        self._device = device
        self._lock = threading.Lock()
        self._newest: Snapshot | None = None

    def latest(self) -> Snapshot:
        """Return the newest snapshot; one query of the catalog if nothing has changed."""
        with self._lock:
            known = self._newest
            if known is not None and known.generation == self._catalog.generation:
                return known
            with self._catalog.reading():
                generation, record = self._catalog.generation, read_record(self._catalog)
                self._store.refresh()
                files = self._store.files
            index, record = self._load_index(known, record)
            covered = record.shards if index is not None else ()
            vectors = VectorSearch(files, self._store.open_shard, index, covered, record.tuning)
            self._newest = Snapshot(generation, vectors, index, record)
            return self._newest

    def _load_index(
        self, known: Snapshot | None, record: VectorRecord
    ) -> tuple[FaissIndex | None, VectorRecord]:
        """Return the vector index that the catalog names, or the previous one if it is damaged."""
        if known is not None and record.checksum == known.record.checksum:
            return known.index, known.record
        stored = StoredVectors(record.shards, self._store.open_shard)
        if record.kind and (copied := gpu_search(stored, self._catalog.dimension, self._device)):
            return copied, replace(record, tuning=None)
        loaded = load_vectors(self._catalog, mapped=True)
        if loaded is not None:
            return loaded
        return (None, record) if known is None else (known.index, known.record)
