"""Answering queries."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from ...core.hits import MIN_PROBABILITY
from ...core.query.value import Query as SearchQuery
from ..batching import Asking
from ..state import ServiceState, service_of
from .shapes import hit_values

__all__ = ["router"]

router = APIRouter(tags=["query"])

Service = Annotated[ServiceState, Depends(service_of)]


@router.get("/query")
async def answer_text(
    service: Service,
    q: Annotated[str, Query(description="A query, such as: a dog -person since:2024")],
    index: str | None = None,
    top: Annotated[int, Query(ge=1, le=1000)] = 10,
    min_probability: Annotated[float | None, Query(ge=0, le=1)] = None,
) -> JSONResponse:
    """Answer one query, given as text."""
    began = time.perf_counter()
    served = service.served(index)
    query = SearchQuery.parse(q)
    [hits] = await served.batcher.ask([query], Asking(top, min_probability=min_probability))
    answer: dict[str, Any] = {
        "query": q,
        "title": query.title,
        "matches": bool(hits) and hits[0].matches,
        "hits": [hit_values(hit, served.name) for hit in hits],
    }
    return JSONResponse(
        {
            "index": served.name,
            "min_probability": MIN_PROBABILITY if min_probability is None else min_probability,
            "milliseconds": round(1000 * (time.perf_counter() - began), 2),
            "answers": [answer],
        }
    )
