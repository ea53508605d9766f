"""The ``VectorIndex`` protocol."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["VectorIndex"]


class VectorIndex(Protocol):
    """Finds the stored vectors with the largest inner products."""

    def search(
        self, queries: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return scores and region ids, best first, both (len(queries), min(k, len(self))).

        Where fewer are found, scores are minus infinity and ids are -1.
        """
        ...

    def __len__(self) -> int:
        """Return the number of vectors."""
        ...
