"""Exact search with FAISS over float16 copies of all embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import ModelError, StoreError
from ..storage.files import atomic_path

__all__ = ["FlatVectorIndex"]


class FlatVectorIndex:
    """A FAISS scalar-quantizer index (float16, inner product) with region ids.

    Parameters
    ----------
    dimension : int
        Of the vectors.
    """

    def __init__(self, dimension: int) -> None:
        faiss = _import_faiss()
        quantizer = faiss.ScalarQuantizer.QT_fp16
        flat = faiss.IndexScalarQuantizer(dimension, quantizer, faiss.METRIC_INNER_PRODUCT)
        self._index: Any = faiss.IndexIDMap(flat)

    @classmethod
    def load(cls, file: BinaryIO, dimension: int) -> FlatVectorIndex:
        """Read what :meth:`save` wrote, or raise :class:`StoreError`.

        FAISS trusts the bytes that it reads, so check their checksum before.
        """
        vectors = cls(dimension)
        faiss = _import_faiss()
        try:
            index = faiss.read_index(faiss.PyCallbackIOReader(file.read))
        except RuntimeError as error:
            raise StoreError(f"the vector index is damaged: {error}") from error
        if type(index) is not type(vectors._index) or index.d != dimension:
            raise StoreError("the vector index is of another kind")
        vectors._index = index
        return vectors

    def save(self, path: Path) -> None:
        """Write the index to `path` in one step.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        faiss = _import_faiss()
        failures: list[OSError] = []

        def write(data: bytes) -> int:
            try:
                return file.write(data)
            except OSError as error:  # would be lost on its way through C++
                failures.append(error)
                return 0

        with atomic_path(path) as temporary, temporary.open("wb") as file:
            try:
                faiss.write_index(self._index, faiss.PyCallbackIOWriter(write))
            except RuntimeError as error:
                raise (failures or [OSError(str(error))])[0] from error

    def add(self, embeddings: npt.NDArray[np.floating[Any]], ids: npt.NDArray[np.int64]) -> None:
        """Add embeddings (n, dimension) under their region ids (n,)."""
        self._index.add_with_ids(np.ascontiguousarray(embeddings, dtype=np.float32), ids)

    def remove(self, ids: npt.NDArray[np.int64]) -> None:
        """Remove the vectors of `ids`; the others keep their order."""
        if len(ids):
            self._index.remove_ids(np.ascontiguousarray(ids))

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Region ids of all vectors, in the order in which they were added."""
        ids: npt.NDArray[np.int64] = _import_faiss().vector_to_array(self._index.id_map)
        return ids

    def embeddings(self, start: int, stop: int) -> npt.NDArray[np.float16]:
        """Return a part of the stored vectors, by their order."""
        rows: npt.NDArray[np.float32] = self._index.index.reconstruct_n(start, stop - start)
        return rows.astype(np.float16)

    def search(
        self, queries: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return the `k` best region ids for each query; see :class:`VectorIndex`."""
        if not len(self):
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        scores, ids = self._index.search(np.ascontiguousarray(queries), min(k, len(self)))
        return scores, ids

    def __len__(self) -> int:
        return int(self._index.ntotal)


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ModelError(
            "FAISS is not installed; run: pip install 'retrieval_grounding[cpu]' "
            "(or [gpu] for NVIDIA GPUs, never both)"
        ) from error
    return faiss
