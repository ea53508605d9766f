"""The HTTP API; each module has the routes of one job."""

from __future__ import annotations

from fastapi import FastAPI

from . import query

__all__ = ["PREFIX", "include_api"]

PREFIX = "/api/v1"


def include_api(app: FastAPI) -> None:
    """Add the routes of the API to the application."""
    app.include_router(query.router, prefix=PREFIX)
