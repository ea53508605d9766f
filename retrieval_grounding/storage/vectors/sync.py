"""The vector index follows the catalog: shards that are new are added, those that went are removed.

A shard is in ``vectors.faiss`` with all its rows or not at all, used or unused: which rows are in
use is asked of the catalog when a phrase has found them. So to follow is to compare two short lists
of shards.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ...core.errors import StoreError
from ...core.progress import progress_bar
from ..catalog import Catalog
from ..files import as_store_error, file_checksum
from ..shards import ShardReader, most_open_shards
from .exact import StoredVectors
from .faiss_index import FaissIndex
from .kinds import Kind, Wanted, choose_kind, list_count
from .metadata import Tuning, VectorRecord, read_record, write_record
from .tuning import tune

__all__ = [
    "VECTORS_FILE",
    "PhraseSource",
    "load_vectors",
    "make_again",
    "reason_to_reindex",
    "refresh_vectors",
]


VECTORS_FILE = "vectors.faiss"

PhraseSource = Callable[[], npt.NDArray[np.float32]]
"""Returns embeddings of phrases (p, d) to tune with."""

_SAMPLED_PER_LIST = 100
_MOST_GROWTH = 1.2
_MOST_TRAINED_GROWTH = 4
_LABELS_SHARDS = 20


def refresh_vectors(
    catalog: Catalog, phrases: PhraseSource | None = None, progress: bool | None = None
) -> None:
    """Bring ``vectors.faiss`` to the catalog's present state; the caller holds the lock.

    Parameters
    ----------
    catalog : Catalog
        Opened for writing.
    phrases : callable, optional
        Called where an approximate index has to be tuned; names of labels serve instead.
    progress : bool, optional
        Show a bar; None shows it on a terminal.
    """
    record = read_record(catalog)
    path = catalog.directory / VECTORS_FILE
    if record.generation == catalog.generation and path.is_file():
        return
    _Writer(catalog, record, phrases, progress).refresh()


def make_again(
    catalog: Catalog,
    wanted: Wanted,
    target: float,
    phrases: PhraseSource | None = None,
    progress: bool | None = None,
) -> VectorRecord:
    """Make ``vectors.faiss`` anew from the shards, of the kind that is wanted.

    The caller holds the lock. Readers use the old file until the new one is complete.

    Raises
    ------
    StoreError
        If a shard is missing or damaged, or the file cannot be written.
    """
    record = VectorRecord(wanted=wanted, target=target)
    _Writer(catalog, record, phrases, progress).refresh()
    return read_record(catalog)


def load_vectors(
    catalog: Catalog, *, mapped: bool = False
) -> tuple[FaissIndex, VectorRecord] | None:
    """Return what ``vectors.faiss`` holds, or None if it is missing or not as it was written.

    It may be older than the catalog. Its bytes are checked before FAISS, which trusts them, sees
    them: that reads the file once, into the page cache and not into the process.

    Parameters
    ----------
    catalog : Catalog
        Of the index.
    mapped : bool
        Map the file where its kind allows it; the index must not be changed then.
    """
    record = read_record(catalog)
    path: Path = catalog.directory / VECTORS_FILE
    if record.kind is None:
        return None
    try:
        with path.open("rb") as file:
            if file_checksum(file) != record.checksum:
                return None
            file.seek(0)
            index = None
            if mapped and str(path).isascii():  # FAISS takes a path as C does
                index = _load_mapped(record.kind, path, file, catalog.dimension)
            if index is None:
                index = FaissIndex.load(record.kind, file, catalog.dimension)
    except (OSError, StoreError):  # it is only a copy; the shards have everything
        return None
    if record.tuning is not None:
        index.effort = record.tuning.effort
    return index, record


def reason_to_reindex(record: VectorRecord, regions: int) -> str | None:
    """Say why ``reindex`` is due, or return None.

    Parameters
    ----------
    record : VectorRecord
        Of the present index.
    regions : int
        All regions in its shards.
    """
    tuning = record.tuning
    if tuning is None:
        return None
    if tuning.recall is not None and tuning.recall < record.target - 0.01:
        return f"it finds {tuning.recall:.3f} of the exact candidates, not {record.target}"
    if regions > _MOST_TRAINED_GROWTH * max(tuning.trained_regions, 1):
        return f"it was trained on {tuning.trained_regions} regions and holds {regions}"
    return None


@dataclass
class _Writer:
    """Adds, removes, trains and tunes."""

    catalog: Catalog
    record: VectorRecord
    phrases: PhraseSource | None
    progress: bool | None

    def __post_init__(self) -> None:
        self._folder = self.catalog.directory / "shards"
        with self.catalog.reading():
            self._generation = self.catalog.generation
            self._files = self.catalog.shard_files()
            self._regions = self.catalog.shard_regions()
        self._reader = lru_cache(maxsize=most_open_shards())(self._open)
        self._stored = StoredVectors(self._files, self._reader)

    def refresh(self) -> None:
        """Write the file and the record, or only the record where no shard has come or gone."""
        path = self.catalog.directory / VECTORS_FILE
        regions = sum(self._regions.values())
        dimension = self.catalog.dimension
        record = self.record
        kind = choose_kind(record.wanted, regions, dimension, record.kind)
        loaded = load_vectors(self.catalog) if kind == record.kind else None
        changed = loaded is None
        if loaded is None:
            index, known = self._start(kind, regions, dimension), set[int]()
            tuning = None
        else:
            index, known = loaded[0], set(record.shards)
            tuning = record.tuning
        gone, new = known - self._files.keys(), sorted(self._files.keys() - known)
        if kind == "hnsw" and gone:  # it cannot forget
            index, known, tuning = self._start(kind, regions, dimension), set(), None
            gone, new, changed = set(), sorted(self._files), True
        if gone or new:
            index.remove_shards(sorted(gone))
            self._add(index, new)
            changed = True
        if kind != "flat":
            tuning = self._tuned(index, tuning, regions)
        checksum = record.checksum
        if changed:
            with as_store_error(path):
                index.save(path)
                checksum = file_checksum(path)
        write_record(
            self.catalog,
            replace(
                record,
                generation=self._generation,
                checksum=checksum,
                kind=kind,
                shards=tuple(sorted(self._files)),
                tuning=tuning,
            ),
        )

    def _start(self, kind: Kind, regions: int, dimension: int) -> FaissIndex:
        """Return an empty index, its lists placed by a sample of all shards."""
        lists = list_count(regions)
        index = FaissIndex.create(kind, dimension, lists)
        if kind == "ivf":
            sample = self._stored.sample(lists * _SAMPLED_PER_LIST)
            index.train(sample if len(sample) else np.eye(1, dimension, dtype=np.float32))
        return index

    def _add(self, index: FaissIndex, numbers: list[int]) -> None:
        with progress_bar("Adding vectors", len(numbers), "shards", self.progress) as advance:
            for number in numbers:
                for embeddings, ids in StoredVectors([number], self._reader).blocks():
                    index.add(embeddings, ids)
                advance(1)

    def _tuned(self, index: FaissIndex, tuning: Tuning | None, regions: int) -> Tuning:
        """Return the tuning, measured again if the index has grown or shrunk since."""
        before = tuning.regions if tuning else 0
        if tuning and before / _MOST_GROWTH <= regions <= before * _MOST_GROWTH:
            return tuning
        trained = tuning.trained_regions if tuning else regions
        phrases = self.phrases() if self.phrases is not None else None
        if phrases is None or len(phrases) < 2:
            phrases = self._label_phrases()
        return tune(index, self._stored, phrases, self.record.target, trained)

    def _label_phrases(self) -> npt.NDArray[np.float32]:
        """Return the names of classes as phrases: the shards have their embeddings."""
        found: dict[str, npt.NDArray[np.float16]] = {}
        for number in sorted(self._files)[:_LABELS_SHARDS]:
            reader = self._reader(number)
            found |= dict(zip(reader.label_names, reader.label_embeddings, strict=True))
        named = np.array([row for row in found.values() if row.any()], np.float32)
        return named.reshape(-1, self.catalog.dimension)

    def _open(self, number: int) -> ShardReader:
        return ShardReader(self._folder / self._files[number], number, self._regions[number])


def _load_mapped(kind: Kind, path: Path, checked: BinaryIO, dimension: int) -> FaissIndex | None:
    """Map the file that was checked; None if a writer has put another in its place."""
    index = FaissIndex.load(kind, path, dimension)
    return index if os.path.samestat(os.fstat(checked.fileno()), path.stat()) else None
