"""Snapshots: what a search reads while the catalog keeps one generation."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from ..storage.vectors.exact import ShardVectors
from ..storage.vectors.faiss_index import FaissIndex
from ..storage.vectors.gpu import copy_to_gpus
from ..storage.vectors.load import load_vectors
from ..storage.vectors.metadata import VectorMetadata, read_metadata
from ..storage.vectors.search import VectorSearch

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
    metadata : VectorMetadata
        How the index was built.
    """

    generation: int
    vectors: VectorSearch
    index: FaissIndex | None
    metadata: VectorMetadata


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
                generation, metadata = self._catalog.generation, read_metadata(self._catalog)
                self._store.refresh()
                files = self._store.files
            index, metadata = self._load_index(known, metadata)
            covered = metadata.shards if index is not None else ()
            vectors = VectorSearch(files, self._store.open_shard, index, covered, metadata.tuning)
            self._newest = Snapshot(generation, vectors, index, metadata)
            return self._newest

    def _load_index(
        self, known: Snapshot | None, metadata: VectorMetadata
    ) -> tuple[FaissIndex | None, VectorMetadata]:
        """Return the vector index that the catalog names, or the previous one if it is damaged."""
        if known is not None and metadata.checksum == known.metadata.checksum:
            return known.index, known.metadata
        stored = ShardVectors(metadata.shards, self._store.open_shard)
        if metadata.kind and (
            copied := copy_to_gpus(stored, self._catalog.dimension, self._device)
        ):
            return copied, replace(metadata, tuning=None)
        loaded = load_vectors(self._catalog, mapped=True)
        if loaded is not None:
            return loaded
        return (None, metadata) if known is None else (known.index, known.metadata)
