"""Exact search with FAISS over float16 copies of all embeddings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError, StoreError
from ..storage.files import atomic_path

__all__ = ["FlatVectorIndex"]


class FlatVectorIndex:
    """A FAISS scalar-quantizer index (float16, inner product) with region ids.

    Parameters
    ----------
    index : faiss.Index
        Made by :meth:`build` or :meth:`load`.
    """

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def build(
        cls,
        dimension: int,
        parts: Iterable[tuple[npt.NDArray[np.float16], npt.NDArray[np.int64]]],
    ) -> FlatVectorIndex:
        """Index `parts`, pairs of embeddings (n, dimension) and their region ids (n,)."""
        faiss = _import_faiss()
        quantizer = faiss.ScalarQuantizer.QT_fp16
        flat = faiss.IndexScalarQuantizer(dimension, quantizer, faiss.METRIC_INNER_PRODUCT)
        index = faiss.IndexIDMap(flat)
        for embeddings, ids in parts:
            index.add_with_ids(np.ascontiguousarray(embeddings, dtype=np.float32), ids)
        return cls(index)

    @classmethod
    def load(cls, path: Path) -> FlatVectorIndex:
        """Read a file that :meth:`save` wrote, or raise :class:`StoreError`."""
        faiss = _import_faiss()
        try:
            return cls(faiss.read_index(str(path)))
        except RuntimeError as error:
            raise StoreError(f"the vector index {path} is damaged: {error}") from error

    def save(self, path: Path) -> None:
        """Write the index to `path` in one step."""
        with atomic_path(path) as temporary:
            _import_faiss().write_index(self._index, str(temporary))

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
