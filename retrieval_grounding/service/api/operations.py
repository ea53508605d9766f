"""Health, readiness and metrics, for those who run the service."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from ...core.version import __version__
from ..state import Service
from .answers import json_answer

__all__ = ["router"]

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """That the service answers."""

    status: str
    version: str


@router.get("/health", response_model=Health)
async def health() -> Response:
    """Say that the service answers, and nothing else."""
    return json_answer({"status": "ok", "version": __version__})


@router.get("/ready", response_model=Health)
def ready(service: Service) -> Response:
    """Say whether every index can be read now; 503 if not."""
    for served in service.indexes.values():
        served.retriever.snapshot()
    return json_answer({"status": "ready", "version": __version__})


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(service: Service) -> Response:
    """Return counters and times in the text format of Prometheus."""
    service.metrics.refresh(service.indexes.values())
    text = generate_latest(service.metrics.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
