"""FAISS behind one small class: exact, inverted lists, and HNSW."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ...core.errors import ModelError, StoreError
from ..files import atomic_path
from ..region_ids import region_ids
from .kinds import Kind

__all__ = ["FaissIndex", "import_faiss"]


_FACTORIES = {"flat": "SQfp16", "ivf": "IVF{lists},RaBitQfs2", "hnsw": "HNSW32,SQfp16"}
"""RaBitQ with two bits found more than product quantization of the same size; docs/performance.md
has the measurement."""

_CONSTRUCTION = 80


class FaissIndex:
    """A FAISS index by inner product, with region ids.

    Parameters
    ----------
    kind : str
        ``"flat"`` (exact, float16), ``"ivf"`` (inverted lists of two-bit RaBitQ codes, to be
        re-scored) or ``"hnsw"`` (a graph over float16).
    index : faiss.Index
        From :meth:`create` or :meth:`load`.

    Attributes
    ----------
    effort : int
        Inverted lists that a search visits, or width of its walk through the graph. The exact
        kind has none.
    keep_alive : tuple
        What the FAISS index needs as long as it lives, and does not own.
    """

    def __init__(self, kind: Kind, index: Any) -> None:
        self.kind = kind
        self.effort = 1
        self.keep_alive: tuple[Any, ...] = ()
        self._index = index

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
            faiss.downcast_index(index.index).hnsw.efConstruction = _CONSTRUCTION
        return cls(kind, index)

    @classmethod
    def load(cls, kind: Kind, source: Path | BinaryIO, dimension: int) -> FaissIndex:
        """Read what :meth:`save` wrote.

        FAISS trusts the bytes that it reads, so check their checksum before. From a path, the
        float16 vectors of the exact kind are mapped into memory instead of read, and the index
        must not be changed.

        Raises
        ------
        StoreError
            If it is no index of this kind and dimension.
        """
        faiss = import_faiss()
        try:
            if isinstance(source, Path):
                index = faiss.read_index(str(source), faiss.IO_FLAG_MMAP_IFC)
            else:
                index = faiss.read_index(faiss.PyCallbackIOReader(source.read))
        except (RuntimeError, UnicodeError, TypeError) as error:
            raise StoreError(f"the vector index is damaged: {error}") from error
        wanted = cls.create(kind, dimension)._index
        if type(index) is not type(wanted) or index.d != dimension:
            raise StoreError("the vector index is of another kind")
        return cls(kind, index)

    def save(self, path: Path) -> None:
        """Write the index to `path` in one step.

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
            except OSError as error:  # would be lost on its way through C++
                failures.append(error)
                return 0

        with atomic_path(path) as temporary, temporary.open("wb") as file:
            try:
                faiss.write_index(self._index, faiss.PyCallbackIOWriter(write, 1 << 20))
            except RuntimeError as error:
                raise (failures or [OSError(str(error))])[0] from error

    @property
    def lists(self) -> int:
        """Number of inverted lists; 1 for the other kinds."""
        return int(self._index.nlist) if self.kind == "ivf" else 1

    def train(self, sample: npt.NDArray[np.float32]) -> None:
        """RowKey the inverted lists by a sample (n, dimension); the other kinds need none."""
        if self.kind == "ivf":
            self._index.cp.min_points_per_centroid = 1  # or it warns on stderr
            self._index.train(sample)

    def add(self, embeddings: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]) -> None:
        """Add embeddings (n, dimension) under their region ids (n,)."""
        self._index.add_with_ids(np.ascontiguousarray(embeddings, np.float32), ids)

    def remove_shards(self, numbers: Iterable[int]) -> None:
        """Remove all vectors of some shards; the others keep their order in the exact kind."""
        faiss = import_faiss()
        for number in numbers:
            first, end = region_ids(np.array([number, number + 1]), np.zeros(2, np.int64)).tolist()
            self._index.remove_ids(faiss.IDSelectorRange(first, end))

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Region ids of all vectors, in the order in which they are stored."""
        faiss = import_faiss()
        if self.kind != "ivf":
            ids: npt.NDArray[np.int64] = faiss.vector_to_array(self._index.id_map)
            return ids
        lists = self._index.invlists
        sizes = [lists.list_size(number) for number in range(self.lists)]
        parts = [
            faiss.rev_swig_ptr(lists.get_ids(number), size).copy()
            for number, size in enumerate(sizes)
            if size
        ]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def embeddings(self, start: int, stop: int) -> npt.NDArray[np.float16]:
        """Return a part of the stored vectors, by their order; inverted lists have only codes."""
        rows: npt.NDArray[np.float32] = self._index.index.reconstruct_n(start, stop - start)
        return rows.astype(np.float16)

    def search(
        self, queries: npt.NDArray[np.float32], k: int, effort: int | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return the `k` best region ids for each query; see :class:`VectorIndex`.

        Parameters
        ----------
        queries : float32 array of shape (p, dimension)
            Unit length.
        k : int
            Regions wanted.
        effort : int, optional
            Takes the place of the attribute.
        """
        if not len(self):
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        faiss = import_faiss()
        k, effort = min(k, len(self)), effort or self.effort
        chosen = None
        if self.kind == "ivf":
            chosen = faiss.SearchParametersIVF(nprobe=min(effort, self.lists))
        elif self.kind == "hnsw":
            chosen = faiss.SearchParametersHNSW(efSearch=max(effort, k))
        scores, ids = self._index.search(np.ascontiguousarray(queries), k, params=chosen)
        scores[ids < 0] = -np.inf
        return scores, ids

    def __len__(self) -> int:
        return int(self._index.ntotal)


def import_faiss() -> Any:
    """Return the module, or say how to install it.

    Raises
    ------
    ModelError
        If FAISS is missing.
    """
    try:
        import faiss
    except ImportError as error:
        raise ModelError(
            "FAISS is not installed; run: pip install 'retrieval_grounding[cpu]' "
            "(or [gpu] for NVIDIA GPUs, never both)"
        ) from error
    return faiss
