"""The HTTP API; each module has the routes of one job."""

from __future__ import annotations

from fastapi import FastAPI

from ..errors import ERROR_ANSWERS
from . import changes, ground, indexes, operations, pictures, query

__all__ = ["PREFIX", "include_api"]

PREFIX = "/api/v1"


def include_api(app: FastAPI) -> None:
    """Add the routes of the API to the application."""
    for module in (query, ground, indexes, pictures, changes, operations):
        app.include_router(module.router, prefix=PREFIX, responses=ERROR_ANSWERS)
