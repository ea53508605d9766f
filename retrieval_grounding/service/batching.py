"""Answering concurrent queries together: one pass through encoder and matcher for many clients."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..core.query.value import Query
from ..index import Index
from ..search.hits import Hits

__all__ = ["Asking", "Batcher"]


@dataclass(frozen=True)
class Asking:
    """How to answer queries; see `Index.query`. Queries that are asked alike share a pass."""

    top: int = 10
    candidates: int = 100
    min_probability: float | None = None
    exact: bool = False
    skip_missing: bool = False


class Batcher:
    """Answers the queries of one index, from any number of tasks of one event loop."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="query")

    async def ask(self, queries: Sequence[Query], asking: Asking) -> list[Hits]:
        """Return the hits of each query."""
        loop = asyncio.get_running_loop()

        def answer() -> list[Hits]:
            return self._index.query(
                list(queries),
                top=asking.top,
                candidates=asking.candidates,
                min_probability=asking.min_probability,
                exact=asking.exact,
                skip_missing=asking.skip_missing,
            )

        return await loop.run_in_executor(self._pool, answer)

    async def close(self) -> None:
        """Wait for queries in progress."""
        await asyncio.to_thread(self._pool.shutdown)
