"""FAISS behind one small class: exact, inverted lists, and HNSW."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ...core.errors import ModelError, StoreError
from ...core.fork import ForkSafeLock
from ...core.threads import WORTH_THREADS
from ..files import atomic_path
from ..region_ids import region_ids
from .kinds import Kind
from .numbering import Numbering
from .search_parameters import SearchParameters
from .selection import Selection

__all__ = ["FaissIndex", "import_faiss"]


_FACTORIES = {"flat": "SQfp16", "ivf": "IVF{lists},RaBitQfs2", "hnsw": "HNSW32,SQfp16"}
"""RaBitQ with two bits finds more than product quantization of the same size; docs/performance.md
has the measurement."""

_IVF_LOOP = 11
"""FAISS's loop over lists with one query at a time: up to a quarter faster than its own choice."""

_EF_CONSTRUCTION = 80
_WRITE_BUFFER_BYTES = 1 << 20
_READING = ForkSafeLock()


class FaissIndex:
    """A FAISS index of inner products, with region ids.

    Parameters
    ----------
    kind : str
        ``"flat"`` (exact, float16), ``"ivf"`` (inverted lists of two-bit RaBitQ codes, to be
        re-scored) or ``"hnsw"`` (a graph over float16 vectors).
    index : faiss.Index
        From :meth:`create` or :meth:`load`.

    Attributes
    ----------
    parameters : SearchParameters
        How far :meth:`search` goes by default; ignored by the exact kind.
    keep_alive : tuple
        Objects that the FAISS index uses but does not own.
    selects : bool
        Whether :meth:`search` can be restricted to a selection, after :meth:`prepare_selections`.
    rounds : bool
        Whether scores are rounded, so that regions have to be scored again: on GPUs, and where
        vectors are compressed.
    most : int or None
        Regions that a search can return; None for any number.
    """

    def __init__(self, kind: Kind, index: Any) -> None:
        self.kind = kind
        self.parameters = SearchParameters()
        self.keep_alive: tuple[Any, ...] = ()
        self._numbering: Numbering | None = None
        self.rounds = kind != "flat"
        self.most: int | None = None
        self._index = index
        if kind == "ivf":
            index.implem = _IVF_LOOP

    @classmethod
    def create(cls, kind: Kind, dimension: int, lists: int = 1) -> FaissIndex:
        """Return an empty index; `lists` is the number of inverted lists."""
        faiss = import_faiss()
        factory = _FACTORIES[kind].format(lists=lists)
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
        if kind == "ivf":
            index.cp.niter, index.cp.seed = 10, 0
        else:
            index = faiss.IndexIDMap(index)
        if kind == "hnsw":
            faiss.downcast_index(index.index).hnsw.efConstruction = _EF_CONSTRUCTION
        return cls(kind, index)

    @classmethod
    def load(cls, kind: Kind, source: Path | BinaryIO, dimension: int) -> FaissIndex:
        """Read what :meth:`save` wrote.

        FAISS does not validate what it reads, so check the checksum first. From a path, the float16
        vectors of the exact kind are mapped into memory instead of read; such an index must not be
        changed.

        Raises
        ------
        StoreError
            If it is not an index of this kind and dimension.
        """
        faiss = import_faiss()
        try:
            with _no_larger_than(source):
                if isinstance(source, Path):
                    index = faiss.read_index(str(source), faiss.IO_FLAG_MMAP_IFC)
                else:
                    index = faiss.read_index(faiss.PyCallbackIOReader(source.read))
        except (RuntimeError, UnicodeError, TypeError, MemoryError) as error:
            raise StoreError(f"the vector index is damaged: {error}") from error
        expected = cls.create(kind, dimension)._index
        if type(index) is not type(expected) or index.d != dimension:
            raise StoreError("the vector index is of a different kind")
        return cls(kind, index)

    def save(self, path: Path) -> None:
        """Write the index to `path` atomically.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        faiss = import_faiss()
        failures: list[OSError] = []

        def write(data: bytes) -> int:
            try:
                return file.write(data)
            except OSError as error:  # C++ would replace it by an error that lacks the reason
                failures.append(error)
                return 0

        with atomic_path(path) as temporary, temporary.open("wb") as file:
            try:
                writer = faiss.PyCallbackIOWriter(write, _WRITE_BUFFER_BYTES)
                faiss.write_index(self._index, writer)
            except RuntimeError as error:
                raise (failures[0] if failures else OSError(str(error))) from error

    @property
    def selects(self) -> bool:
        """Whether a search can be restricted."""
        return self._numbering is not None

    def prepare_selections(self) -> None:
        """Let :meth:`search` be restricted to selections; the index must not be changed any more.

        FAISS keeps consecutive numbers from then on, not region ids: it looks them up in a bitmap,
        which is ten times as fast as its table of ids. An index with gaps is left as it is.
        """
        views = self._id_views()
        numbering = Numbering.of(views)
        if numbering is not None:
            for view in views:
                view[:] = numbering.numbers(view)
            self._numbering = numbering

    def _id_views(self) -> list[npt.NDArray[np.int64]]:
        """Return what FAISS stores as ids, in its own memory, in the order of the vectors."""
        faiss = import_faiss()
        if self.kind != "ivf":
            stored = self._index.id_map
            return [faiss.rev_swig_ptr(stored.data(), stored.size())] if stored.size() else []
        lists = self._index.invlists
        sizes = [lists.list_size(number) for number in range(self.lists)]
        return [
            faiss.rev_swig_ptr(lists.get_ids(number), size) if size else np.zeros(0, np.int64)
            for number, size in enumerate(sizes)
        ]

    @property
    def lists(self) -> int:
        """Number of inverted lists; 1 for the other kinds."""
        return int(self._index.nlist) if self.kind == "ivf" else 1

    def train(self, sample: npt.NDArray[np.float32]) -> None:
        """Train the inverted lists on a sample (n, dimension); the other kinds need no training."""
        if self.kind == "ivf":
            self._index.cp.min_points_per_centroid = 1  # keeps FAISS from warning on stderr
            self._index.train(sample)

    def add(self, embeddings: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]) -> None:
        """Add embeddings (n, dimension) under their region ids (n,)."""
        self._index.add_with_ids(np.ascontiguousarray(embeddings, np.float32), ids)

    def remove_shards(self, numbers: Iterable[int]) -> None:
        """Remove all vectors of some shards; in the exact kind, the others keep their order."""
        faiss = import_faiss()
        for number in numbers:
            first, end = region_ids(np.array([number, number + 1]), np.zeros(2, np.int64)).tolist()
            self._index.remove_ids(faiss.IDSelectorRange(first, end))

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Region ids of all vectors, in the order in which they are stored."""
        stored = np.concatenate([np.zeros(0, np.int64), *self._id_views()])
        return stored if self._numbering is None else self._numbering.ids(stored)

    def embeddings(self, start: int, stop: int) -> npt.NDArray[np.float16]:
        """Return some of the stored vectors, by their order; inverted lists have only codes."""
        rows: npt.NDArray[np.float32] = self._index.index.reconstruct_n(start, stop - start)
        return rows.astype(np.float16)

    def search(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        parameters: SearchParameters | None = None,
        selection: Selection | None = None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return the `k` best region ids for each query; see :class:`VectorIndex`.

        Parameters
        ----------
        queries : float32 array of shape (p, dimension)
            Unit length.
        k : int
            Regions per query.
        parameters : SearchParameters, optional
            Overrides the attribute.
        selection : Selection, optional
            Regions to which the search is restricted.
        """
        if not len(self):
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        k, parameters = min(k, len(self)), parameters or self.parameters
        faiss_parameters = self._faiss_parameters(parameters, k, selection)
        with _few_threads(len(queries)):
            scores, ids = self._index.search(
                np.ascontiguousarray(queries), k, params=faiss_parameters
            )
        scores[ids < 0] = -np.inf
        return scores, ids if self._numbering is None else self._numbering.ids(ids)

    def lists_with(
        self, queries: npt.NDArray[np.float32], selection: Selection, regions: float
    ) -> int:
        """Return how many of the nearest lists have so many selected regions, for any query.

        Regions of one label are in few lists, which may be far from what a phrase means.

        Parameters
        ----------
        queries : float32 array of shape (p, dimension)
            Unit length.
        selection : Selection
            Regions to which a search will be restricted.
        regions : float
            At most as many as are selected.
        """
        counts = self._selected_in_lists(selection)
        with _few_threads(len(queries)):
            _, nearest = self._index.quantizer.search(np.ascontiguousarray(queries), self.lists)
        seen = counts[nearest].cumsum(axis=1)
        return min(int((seen < regions).sum(axis=1).max()) + 1, self.lists)

    def _selected_in_lists(self, selection: Selection) -> npt.NDArray[np.int64]:
        """Return how many selected regions each inverted list has."""
        assert self._numbering is not None
        cache = selection.faiss_cache
        numbering, counts = cache.get("lists", (None, None))
        if numbering is not self._numbering:
            views = self._id_views()
            lists = np.repeat(np.arange(len(views)), [len(view) for view in views])
            bits = np.unpackbits(self._numbering.bitmap(selection), bitorder="little")
            chosen = bits[np.concatenate(views)].astype(bool)
            counts = np.bincount(lists[chosen], minlength=len(views))
            cache["lists"] = self._numbering, counts
        found: npt.NDArray[np.int64] = counts
        return found

    def _faiss_parameters(
        self, parameters: SearchParameters, k: int, selection: Selection | None
    ) -> Any:
        faiss = import_faiss()
        chosen = {} if selection is None else {"sel": self._selector(selection)}
        if self.kind == "ivf":
            nprobe = min(parameters.nprobe, self.lists)
            return faiss.SearchParametersIVF(nprobe=nprobe, **chosen)
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(parameters.ef_search, k), **chosen)
        return faiss.SearchParameters(**chosen) if chosen else None

    def _selector(self, selection: Selection) -> Any:
        """Return FAISS's form of a selection, without regions that the index lacks."""
        assert self._numbering is not None
        cache = selection.faiss_cache
        numbering, selector = cache.get("selector", (None, None))
        if numbering is not self._numbering:
            selector = import_faiss().IDSelectorBitmap(self._numbering.bitmap(selection))
            cache["selector"] = self._numbering, selector
        return selector

    def __len__(self) -> int:
        return int(self._index.ntotal)


@contextlib.contextmanager
def _no_larger_than(source: Path | BinaryIO) -> Iterator[None]:
    """Let FAISS refuse arrays that are larger than the file, before it allocates them."""
    faiss = import_faiss()
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):  # an older release of FAISS
        yield
        return
    status = source.stat() if isinstance(source, Path) else os.fstat(source.fileno())
    with _READING:  # the limit holds for the whole process
        limit = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(max(status.st_size, 1))
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(limit)


@contextlib.contextmanager
def _few_threads(queries: int) -> Iterator[None]:
    """Let FAISS search for a few queries with the caller's thread alone.

    Its other threads would spin for some milliseconds afterwards, and so take the cores from the
    matcher, which runs next, and fight for them with everything else on the machine.
    """
    faiss = import_faiss()
    usual = faiss.omp_get_max_threads()  # this thread's number; other threads keep theirs
    faiss.omp_set_num_threads(usual if queries >= WORTH_THREADS else 1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(usual)


def import_faiss() -> Any:
    """Return the module ``faiss``.

    Raises
    ------
    ModelError
        If FAISS is not installed.
    """
    # When imported, FAISS logs which instruction set it tries, which is of no use to applications.
    loader = logging.getLogger("faiss.loader")
    if loader.level == logging.NOTSET:  # an application may have chosen a level
        loader.setLevel(logging.WARNING)
    try:
        import faiss
    except ImportError as error:
        raise ModelError(
            "FAISS is not installed; run: pip install 'retrieval_grounding[cpu]' "
            "(or [gpu] for NVIDIA GPUs, never both)"
        ) from error
    return faiss
