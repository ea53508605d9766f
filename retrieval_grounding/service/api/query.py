"""Answering queries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ...core.errors import QueryError
from ...core.hits import MIN_PROBABILITY
from ...core.query.value import Query as SearchQuery
from ...matching.names import BUNDLED, COSINE, COSINE_LABEL, own_names
from ...search.hits import Hits
from ..batching import Asking
from ..errors import NotFoundError, RefusedError
from ..reading import QueryValues, check_asking, read_query
from ..served import ServedIndex
from ..state import Service, ServiceState
from .answers import json_answer
from .shapes import Answers, hit_values

__all__ = ["router"]

router = APIRouter(tags=["query"])


class QueryRequest(BaseModel):
    """Queries, and how to answer them."""

    model_config = ConfigDict(extra="forbid")
    queries: list[str | QueryValues] = Field(
        description="Texts in the query language, such as 'a dog -person', or queries in parts."
    )
    index: str | None = Field(None, description="Name of the index; the first if left out.")
    top: int = Field(10, description="Hits per query.")
    candidates: int = Field(100, description="Candidate images, whose regions are scored.")
    min_probability: float | None = Field(
        None, description=f"Drop less probable images; {MIN_PROBABILITY} if left out, 0 keeps all."
    )
    exact: bool = Field(False, description="Compare every region.")
    skip_missing: bool = Field(False, description="Leave out images whose files are gone.")
    matcher: str | None = Field(None, description="Name of a matcher to score with.")
    feedback: bool = Field(True, description="Follow the thumbs that people have given.")
    explain: bool = Field(False, description="Say why each hit was found.")


@router.get("/query", response_model=Answers)
async def answer_text(
    service: Service,
    q: Annotated[str, Query(description="A query, such as: a dog -person since:2024")],
    index: str | None = None,
    top: int = 10,
    candidates: int = 100,
    min_probability: float | None = None,
    exact: bool = False,
    matcher: str | None = None,
    feedback: bool = True,
    explain: bool = False,
) -> Response:
    """Answer one query, given as text."""
    asking = Asking(top, candidates, min_probability, exact, matcher=matcher, feedback=feedback)
    return await _answer(service, index, [q], asking, explain)


@router.post("/query", response_model=Answers)
async def answer_queries(service: Service, asked: QueryRequest) -> Response:
    """Answer queries, given as text or in parts."""
    limit = service.settings.limits.queries
    if not 1 <= len(asked.queries) <= limit:
        raise RefusedError(422, "limit", f"a request has between 1 and {limit} queries", limit)
    asking = Asking(
        asked.top,
        asked.candidates,
        asked.min_probability,
        asked.exact,
        asked.skip_missing,
        asked.matcher,
        asked.feedback,
    )
    return await _answer(service, asked.index, asked.queries, asking, asked.explain)


async def _answer(
    service: ServiceState,
    index: str | None,
    given: Sequence[str | QueryValues],
    asking: Asking,
    explain: bool,
) -> Response:
    began = time.perf_counter()
    served = service.served(index)
    check_asking(asking, service.settings.limits)
    if asking.matcher is not None:
        await run_in_threadpool(_check_matcher, served, asking.matcher)
    queries = [await read_query(service, one) for one in given]
    found = await served.batcher.ask(queries, asking)
    answers = [
        {
            "query": text if isinstance(text, str) else _text_of(query),
            "title": query.title,
            "matches": any(hit.matches for hit in hits),
            "hits": [hit_values(hit, served.name) for hit in hits],
        }
        for text, query, hits in zip(given, queries, found, strict=True)
    ]
    if explain:
        limit = service.settings.limits.explained
        if sum(map(len, found)) > limit:
            message = f"a request explains at most {limit} hits; ask for fewer with top"
            raise RefusedError(422, "limit", message, limit)
        await run_in_threadpool(_explain, answers, found)
    minimum = asking.min_probability
    return json_answer(
        {
            "index": served.name,
            "min_probability": MIN_PROBABILITY if minimum is None else minimum,
            "milliseconds": round(1000 * (time.perf_counter() - began), 2),
            "answers": answers,
        }
    )


def _check_matcher(served: ServedIndex, name: str) -> None:
    known = [*own_names(served.index.directory), BUNDLED, COSINE, COSINE_LABEL]
    if name not in known:
        raise NotFoundError(f"{served.name} has no matcher {name!r:.80}; it has {', '.join(known)}")


def _explain(answers: list[dict[str, Any]], found: Sequence[Hits]) -> None:
    for answer, hits in zip(answers, found, strict=True):
        for values, hit in zip(answer["hits"], hits, strict=True):
            values["explanation"] = hit.explain().as_dict()


def _text_of(query: SearchQuery) -> str | None:
    try:
        return str(query)
    except QueryError:  # an example has no text form
        return None
