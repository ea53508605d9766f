"""How far an approximate index searches, in the terms of FAISS."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .kinds import Kind

__all__ = ["SearchParameters"]


@dataclass(frozen=True)
class SearchParameters:
    """How far a search goes; each approximate kind uses its own parameter.

    Parameters
    ----------
    nprobe : int
        Inverted lists to visit, for ``"ivf"``.
    ef_search : int
        Candidates to keep while walking through the graph, for ``"hnsw"``.
    """

    nprobe: int = 1
    ef_search: int = 16

    @classmethod
    def for_kind(cls, kind: Kind | None, value: int) -> SearchParameters:
        """Return parameters in which the one that `kind` uses is `value`."""
        return cls(ef_search=value) if kind == "hnsw" else cls(nprobe=value)

    def value(self, kind: Kind | None) -> int:
        """Return the parameter that `kind` uses."""
        return self.ef_search if kind == "hnsw" else self.nprobe

    def scaled(self, factor: float) -> SearchParameters:
        """Return parameters for a search that goes `factor` times as far."""
        return SearchParameters(math.ceil(self.nprobe * factor), math.ceil(self.ef_search * factor))
