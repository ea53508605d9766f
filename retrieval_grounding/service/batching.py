"""Answering concurrent queries together: one pass through encoder and matcher for many clients."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from ..core.errors import GroundingError
from ..core.query.value import Query
from ..index import Index
from ..search.hits import Hits
from ..search.rank import filter_by_probability

__all__ = ["Asking", "Batcher"]

Result = TypeVar("Result")

_MAX_BATCH = 64
_MAX_IMAGES = 6400  # candidates of a pass, whose regions are in memory together
_GATHER_SECONDS = 0.003
_OTHERS_AT_ONCE = 2


@dataclass(frozen=True)
class Asking:
    """How to answer queries; see `Index.query`. Phrases that are asked alike share a pass."""

    top: int = 10
    candidates: int = 100
    min_probability: float | None = None
    exact: bool = False
    skip_missing: bool = False
    matcher: str | None = None
    feedback: bool = True

    def of(self, query: Query) -> Asking:
        """Return this with what a query demands itself."""
        minimum = query.min_probability
        return replace(
            self,
            top=self.top if query.top is None else query.top,
            min_probability=self.min_probability if minimum is None else minimum,
        )

    @property
    def shared(self) -> tuple[object, ...]:
        """What must be the same for phrases to share a pass."""
        return self.enough, self.exact, self.skip_missing, self.matcher, self.feedback

    @property
    def enough(self) -> int:
        """How many candidates a search takes."""
        return max(self.candidates, self.top)


@dataclass(frozen=True)
class _Waiting:
    phrase: str
    asking: Asking
    answer: asyncio.Future[Hits]


class Batcher:
    """Answers the queries of one index, from any number of tasks of one event loop.

    Plain phrases wait while a pass is in progress, and then share the next: it encodes all of them
    together, and the matcher scores the candidates of all. So a client by itself does not wait, and
    the more there are, the larger the passes. Where several ask for the same, it is looked for
    once. A query that says more than a phrase is answered by itself.

    Parameters
    ----------
    index : Index
        Open.
    on_batch : callable, optional
        Called with the number of phrases of each pass.
    """

    def __init__(self, index: Index, on_batch: Callable[[int], object] = int) -> None:
        self._index = index
        self._on_batch = on_batch
        self._pool = ThreadPoolExecutor(1 + _OTHERS_AT_ONCE, thread_name_prefix="query")
        self._others = asyncio.Semaphore(_OTHERS_AT_ONCE)
        self._waiting: deque[_Waiting] = deque()
        self._passes: asyncio.Task[None] | None = None

    async def ask(self, queries: Sequence[Query], asking: Asking) -> list[Hits]:
        """Return the hits of each query.

        Raises
        ------
        GroundingError
            As :meth:`Index.query` does.
        """
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Hits]] = []
        for query in queries:
            if query.is_plain:
                answer: asyncio.Future[Hits] = loop.create_future()
                self._waiting.append(_Waiting(query.title, asking.of(query), answer))
            else:
                answer = asyncio.ensure_future(self._ask_alone(query, asking))
            answers.append(answer)
        if self._waiting and (self._passes is None or self._passes.done()):
            self._passes = asyncio.create_task(self._run_passes())
        done = await asyncio.gather(*answers, return_exceptions=True)
        for result in done:
            if isinstance(result, BaseException):
                raise result
        return [result for result in done if isinstance(result, Hits)]

    async def close(self) -> None:
        """Wait for queries in progress; none may be asked afterwards."""
        if self._passes is not None:
            await self._passes
        await asyncio.to_thread(self._pool.shutdown)

    async def _ask_alone(self, query: Query, asking: Asking) -> Hits:
        async with self._others:
            return await self._in_thread(lambda: self._query([query], asking)[0])

    async def _run_passes(self) -> None:
        """Answer what waits, pass after pass, until nothing waits."""
        size = 0
        while self._waiting:
            if size > 1 and len(self._waiting) < size:
                # Those who were answered just now may be about to ask again.
                await asyncio.sleep(_GATHER_SECONDS)
            batch = self._next_batch()
            size = len(batch)
            self._on_batch(size)
            await self._answer(batch)

    def _next_batch(self) -> list[_Waiting]:
        first = self._waiting[0].asking
        shared, most = first.shared, min(_MAX_BATCH, max(1, _MAX_IMAGES // first.enough))
        batch: list[_Waiting] = []
        others: deque[_Waiting] = deque()
        while self._waiting and len(batch) < most:
            one = self._waiting.popleft()
            (batch if one.asking.shared == shared else others).append(one)
        self._waiting.extendleft(reversed(others))
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        try:
            answers = await self._in_thread(lambda: self._query_together(batch))
        except Exception as error:
            if len(batch) == 1:
                _settle(batch[0].answer, error)
                return
            for one in batch:  # the fault of one is not that of the others
                await self._answer([one])
            return
        for one, found in zip(batch, answers, strict=True):
            try:
                kept = Hits(filter_by_probability(found, one.asking.min_probability))
            except GroundingError as error:
                _settle(one.answer, error)
            else:
                _settle(one.answer, kept)

    def _query_together(self, batch: list[_Waiting]) -> list[Hits]:
        phrases = list(dict.fromkeys(one.phrase for one in batch))
        asking = replace(
            batch[0].asking,
            top=max(one.asking.top for one in batch),
            candidates=batch[0].asking.enough,
            min_probability=0.0,
        )
        queries = [Query(phrase) for phrase in phrases]
        found = dict(zip(phrases, self._query(queries, asking), strict=True))
        return [found[one.phrase][: one.asking.top] for one in batch]

    def _query(self, queries: list[Query], asking: Asking) -> list[Hits]:
        return self._index.query(
            queries,
            top=asking.top,
            candidates=asking.candidates,
            min_probability=asking.min_probability,
            exact=asking.exact,
            skip_missing=asking.skip_missing,
            matcher=asking.matcher,
            feedback=asking.feedback,
        )

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _settle(answer: asyncio.Future[Hits], result: Hits | Exception) -> None:
    if answer.done():  # whoever asked has gone
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
