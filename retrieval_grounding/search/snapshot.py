"""Snapshots: what a search reads while the catalog keeps one state."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.text import counted
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from ..storage.vectors.exact import ShardVectors
from ..storage.vectors.faiss_index import FaissIndex
from ..storage.vectors.gpu import copy_to_gpus, gpu_numbers
from ..storage.vectors.load import load_vectors
from ..storage.vectors.metadata import VectorMetadata, read_metadata
from ..storage.vectors.search import VectorSearch
from .selecting import Selections

__all__ = ["Snapshot", "SnapshotCache"]


@dataclass(frozen=True)
class Snapshot:
    """The vectors of one state of the catalog; never changed.

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
    unindexed_shards : int
        Shards that `index` lacks, whose regions are compared one by one.
    images : int
        Number of images in the collection.
    all_used : bool
        Whether images use every row of every shard.
    gpus : int
        Number of GPUs that hold the index.
    has_metadata : bool
        Whether an image has an id or metadata.
    state : object
        Of the catalog; what may change without its images is compared by it.
    selections : Selections
        What filters allow.
    """

    generation: int
    vectors: VectorSearch
    index: FaissIndex | None
    metadata: VectorMetadata
    unindexed_shards: int
    images: int
    all_used: bool = False
    gpus: int = 0
    has_metadata: bool = False
    state: object = None
    selections: Selections = field(default_factory=Selections, compare=False)

    @property
    def device(self) -> str:
        """Where vectors are searched, as text for users."""
        if not self.gpus or self.index is None or not len(self.index):
            return "cpu"
        device = f"cuda ({counted(self.gpus, 'GPU')})"
        if not self.unindexed_shards:
            return device
        return f"{device}, {counted(self.unindexed_shards, 'new shard')} on cpu"

    def describe(self) -> dict[str, Any]:
        """Return how vectors are searched, as plain values."""
        kind = "brute force" if self.index is None else self.index.kind
        return {"search": kind, "unindexed_shards": self.unindexed_shards}


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
        self._lock = threading.RLock()
        self._state: object = None
        self._newest: Snapshot | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[Snapshot]:
        """Yield the newest snapshot, and keep the catalog in its state; the block must be short.

        The locks are always taken in this order: two threads with one each would wait forever.
        """
        with self._lock, self._catalog.reading():
            yield self.latest()

    def latest(self) -> Snapshot:
        """Return the newest snapshot; one query of the catalog if nothing has changed."""
        with self._lock:
            known = self._newest
            if known is not None and self._state == self._current_state(known):
                return known
            with self._catalog.reading():
                metadata = read_metadata(self._catalog)
                state = self._catalog.state()
                generation = self._catalog.generation
                images = self._catalog.image_count()
                all_used = images == sum(self._catalog.shard_images().values())
                described = self._catalog.has_metadata()
                self._store.refresh()
                files = self._store.files
            metadata = replace(metadata, shards=tuple(n for n in metadata.shards if n in files))
            index, metadata, gpus = self._load_index(known, metadata)
            covered = metadata.shards if index is not None else ()
            vectors = VectorSearch(files, self._store.open_shard, index, covered, metadata.tuning)
            unindexed = len(files.keys() - set(covered))
            newest = Snapshot(
                generation, vectors, index, metadata, unindexed, images, all_used, gpus, described,
                state,
            )  # fmt: skip
            self._newest, self._state = newest, (state, self._unusable_file(newest))
            return newest

    def kept(self) -> Snapshot:
        """Return the snapshot that was the newest when one was asked for last."""
        return self._newest or self.latest()

    def _current_state(self, known: Snapshot) -> object:
        return self._catalog.state(), self._unusable_file(known)

    def _unusable_file(self, snapshot: Snapshot) -> tuple[int, ...] | None:
        """Return which file could not be used, so that a new one of the same name is tried."""
        if snapshot.index is not None or snapshot.metadata.kind is None:
            return None
        try:
            status = os.stat(self._catalog.directory / snapshot.metadata.file)  # noqa: PTH116
        except OSError:
            return ()
        return (status.st_ino, status.st_size, status.st_mtime_ns)

    def _load_index(
        self, known: Snapshot | None, metadata: VectorMetadata
    ) -> tuple[FaissIndex | None, VectorMetadata, int]:
        """Return the vector index that the catalog names, or the previous one if it is damaged."""
        if known is not None and known.index is not None:
            if known.gpus and metadata.shards == known.metadata.shards and metadata.kind:
                return known.index, replace(metadata, tuning=None), known.gpus
            if not known.gpus and metadata.checksum == known.metadata.checksum:
                return known.index, metadata, 0
        # Without a file, nothing says which shards it would hold, so all are copied.
        on_gpus = metadata if metadata.kind else replace(metadata, shards=tuple(self._store.files))
        stored = ShardVectors(on_gpus.shards, self._store.open_shard)
        if on_gpus.shards and (
            copied := copy_to_gpus(stored, self._catalog.dimension, self._device)
        ):
            return copied, replace(on_gpus, tuning=None), len(gpu_numbers(self._device))
        loaded = load_vectors(self._catalog, mapped=True)
        if loaded is not None:
            return (*loaded, 0)
        if known is None or known.index is None:
            return None, metadata, 0
        return known.index, known.metadata, known.gpus
