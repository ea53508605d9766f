"""Keeping the vector index in sync with the catalog: adding new shards, removing deleted ones.

Its file holds all rows of a shard, used or unused, or none; queries ask the catalog which of the
rows they found are in use. So staying in sync means comparing two short lists of shards.

Each content has a file name of its own, and the catalog names the current one. So readers that have
the old file mapped do not block writers, and no reader sees a file that does not fit the catalog.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...core.progress import progress_bar
from ..catalog import Catalog
from ..files import as_store_error, file_checksum, is_plain, sync_folder, temporary_path
from ..open_shards import OpenShards
from .exact import ShardVectors
from .faiss_index import FaissIndex
from .kinds import Kind, RequestedKind, choose_kind, list_count
from .load import load_vectors, vectors_path
from .metadata import VECTORS_FILES, Tuning, VectorMetadata, read_metadata, write_metadata
from .tuning import tune

__all__ = [
    "PhraseSource",
    "lacks_many_regions",
    "reason_to_reindex",
    "rebuild_vectors",
    "sync_vectors",
]


PhraseSource = Callable[[], npt.NDArray[np.float32]]
"""Returns embeddings of phrases (p, d) to tune with."""

_LOGGER = logging.getLogger(__name__)

_TRAINING_REGIONS_PER_LIST = 100
_MAX_GROWTH_UNTIL_TUNING = 1.2
_MAX_GROWTH_UNTIL_TRAINING = 4
_RECALL_TOLERANCE = 0.01
_MAX_LABEL_SHARDS = 20
_MAX_UNINDEXED = 20_000
_MAX_UNINDEXED_SHARE = 0.05


def sync_vectors(
    catalog: Catalog, phrases: PhraseSource | None = None, progress: bool | None = None
) -> None:
    """Bring the vector index up to date with the catalog; the caller holds the writer's lock.

    Parameters
    ----------
    catalog : Catalog
        Opened for writing.
    phrases : callable, optional
        Called if an approximate index has to be tuned; by default the labels serve as phrases.
    progress : bool, optional
        Show a progress bar; None shows it on a terminal.
    """
    metadata = read_metadata(catalog)
    path = vectors_path(catalog)
    if metadata.generation == catalog.generation and is_plain(path):
        _delete_others(catalog.directory, metadata.file)
        return
    _VectorWriter(catalog, metadata, phrases, progress).run()


def lacks_many_regions(catalog: Catalog) -> bool:
    """Return whether the vector index lacks so many regions that it is worth writing it again.

    Until then, queries compare these regions one by one.
    """
    indexed, regions = set(read_metadata(catalog).shards), catalog.shard_regions()
    missing = sum(count for number, count in regions.items() if number not in indexed)
    return missing > max(_MAX_UNINDEXED, _MAX_UNINDEXED_SHARE * sum(regions.values()))


def rebuild_vectors(
    catalog: Catalog,
    requested: RequestedKind,
    target_recall: float,
    phrases: PhraseSource | None = None,
    progress: bool | None = None,
) -> VectorMetadata:
    """Rebuild the vector index from the shards, and remember the requested kind and recall.

    The caller holds the writer's lock. Readers use the old file until the new one is complete.

    Parameters
    ----------
    catalog : Catalog
        Opened for writing.
    requested : str
        ``"auto"``, ``"flat"``, ``"ivf"`` or ``"hnsw"``.
    target_recall : float
        Recall to tune an approximate kind for.
    phrases : callable, optional
        Called if an approximate index has to be tuned; by default the labels serve as phrases.
    progress : bool, optional
        Show a progress bar; None shows it on a terminal.

    Raises
    ------
    StoreError
        If a shard is missing or damaged, or the file cannot be written.
    """
    metadata = VectorMetadata(requested=requested, target_recall=target_recall)
    _VectorWriter(catalog, metadata, phrases, progress).run()
    return read_metadata(catalog)


def reason_to_reindex(metadata: VectorMetadata, regions: int) -> str | None:
    """Return why ``reindex`` is due, or None if it is not.

    Parameters
    ----------
    metadata : VectorMetadata
        Metadata of the current vector index.
    regions : int
        All regions in its shards.
    """
    tuning = metadata.tuning
    if tuning is None:
        return None
    target = metadata.target_recall
    if tuning.recall is not None and tuning.recall < target - _RECALL_TOLERANCE:
        return f"it finds {tuning.recall:.3f} of the exact candidates, not {target}"
    if regions > _MAX_GROWTH_UNTIL_TRAINING * max(tuning.trained_regions, 1):
        return f"it was trained on {tuning.trained_regions} regions and holds {regions}"
    return None


class _VectorWriter:
    """Updates or rebuilds the vector index of one state of the catalog."""

    def __init__(
        self,
        catalog: Catalog,
        metadata: VectorMetadata,
        phrases: PhraseSource | None,
        progress: bool | None,
    ) -> None:
        self._catalog = catalog
        self._metadata = metadata
        self._phrases = phrases
        self._progress = progress
        with catalog.reading():
            self._generation = catalog.generation
            self._shards = OpenShards(catalog)
        self._total = sum(self._shards.regions.values())
        self._vectors = ShardVectors(self._shards.files, self._shards.get)

    def run(self) -> None:
        """Write the file and its metadata, or only the metadata if the shards are the same."""
        old = self._metadata
        kind = choose_kind(old.requested, self._total, self._catalog.dimension, old.kind)
        loaded = load_vectors(self._catalog) if kind == old.kind else None
        current = set(self._shards.files)
        if loaded is None:
            index, indexed, tuning = self._new_index(kind), set[int](), None
            self._log_build(kind)
        else:
            index, indexed, tuning = loaded[0], set(old.shards), old.tuning
        if kind == "hnsw" and indexed - current:
            _LOGGER.info("rebuilding the vector index: HNSW cannot remove vectors")
            loaded, index, indexed, tuning = None, self._new_index(kind), set(), None
        deleted, added = sorted(indexed - current), sorted(current - indexed)
        index.remove_shards(deleted)
        self._add(index, added)
        if kind != "flat":
            tuning = self._tune(index, tuning)
        checksum, file = old.checksum, old.file
        if loaded is None or deleted or added:
            checksum, file = self._save(index)
        write_metadata(
            self._catalog,
            replace(
                old,
                generation=self._generation,
                checksum=checksum,
                kind=kind,
                shards=tuple(sorted(current)),
                tuning=tuning,
                file=file,
            ),
        )
        _delete_others(self._catalog.directory, file)

    def _log_build(self, kind: Kind) -> None:
        old = self._metadata.kind
        if old is None:
            _LOGGER.info("building the vector index of kind %r", kind)
        elif kind == old:
            _LOGGER.info("rebuilding the vector index: the file is missing or damaged")
        else:
            _LOGGER.info("rebuilding the vector index: its kind changes from %r to %r", old, kind)

    def _new_index(self, kind: Kind) -> FaissIndex:
        """Return an empty index, its lists trained on a sample of all shards."""
        lists, dimension = list_count(self._total), self._catalog.dimension
        index = FaissIndex.create(kind, dimension, lists)
        if kind == "ivf":
            sample = np.eye(1, dimension, dtype=np.float32)
            if self._total:
                sample = self._vectors.sample(lists * _TRAINING_REGIONS_PER_LIST)
            index.train(sample)
        return index

    def _add(self, index: FaissIndex, numbers: list[int]) -> None:
        if not numbers:
            return
        with progress_bar("Adding vectors", len(numbers), "shards", self._progress) as advance:
            for number in numbers:
                for embeddings, ids in ShardVectors([number], self._shards.get).blocks():
                    index.add(embeddings, ids)
                advance(1)

    def _save(self, index: FaissIndex) -> tuple[str, str]:
        """Write the index beside the current file; return its checksum and its name."""
        self._catalog.check_lock()
        folder = self._catalog.directory
        draft = temporary_path(folder / "vectors.faiss")
        with as_store_error(folder / "vectors.faiss"):
            index.save(draft)
            checksum = file_checksum(draft)
            path = folder / f"vectors-{checksum[:16]}.faiss"
            try:
                draft.replace(path)
            except PermissionError:  # on Windows, a reader has the same content mapped
                if file_checksum(path) != checksum:
                    raise
                draft.unlink()
            sync_folder(folder)
        return checksum, path.name

    def _tune(self, index: FaissIndex, tuning: Tuning | None) -> Tuning:
        """Return the tuning, or a new one if the index has grown or shrunk considerably since."""
        before = tuning.regions if tuning else 0
        growth = _MAX_GROWTH_UNTIL_TUNING
        if tuning and before / growth <= self._total <= before * growth:
            return tuning
        phrases = self._phrases() if self._phrases is not None else None
        if phrases is None or len(phrases) < 2:
            phrases = self._label_embeddings()
        trained = tuning.trained_regions if tuning else self._total
        tuned = tune(index, self._vectors, phrases, self._metadata.target_recall, trained)
        _LOGGER.info("tuned the vector index on %d phrases: %s", len(phrases), tuned)
        return tuned

    def _label_embeddings(self) -> npt.NDArray[np.float32]:
        """Return the embeddings of labels as phrases, which the shards store."""
        found: dict[str, npt.NDArray[np.float16]] = {}
        for number in sorted(self._shards.files)[:_MAX_LABEL_SHARDS]:
            reader = self._shards.get(number)
            found |= dict(zip(reader.label_names, reader.label_embeddings, strict=True))
        # Zeros stand for 'whole image', which is not a phrase.
        rows = np.array([row for row in found.values() if row.any()], np.float32)
        return rows.reshape(-1, self._catalog.dimension)


def _delete_others(folder: Path, current: str) -> None:
    """Delete former vector indexes, except those that Windows keeps while a reader maps them."""
    for path in folder.glob("vectors*.faiss"):
        if VECTORS_FILES.fullmatch(path.name) and path.name != current:
            with contextlib.suppress(OSError):
                path.unlink()
