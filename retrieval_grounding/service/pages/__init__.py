"""The pages that people see; each module has the routes of one, or what several share."""

from __future__ import annotations

from fastapi import FastAPI

from ..templating import environment
from . import compare, helping, looking, photo, search, status, teaching
from .collection import Collections
from .problems import error_page
from .skipped import SkippedPictures

__all__ = ["error_page", "include_pages"]


def include_pages(app: FastAPI) -> None:
    """Add the routes of all pages to the application."""
    app.state.collections = Collections()
    app.state.error_page = error_page
    app.state.skipped_pictures = SkippedPictures()
    environment().globals["static"] = lambda name: f"/static/{name}"
    for module in (search, photo, compare, looking, status, teaching, helping):
        app.include_router(module.router)
