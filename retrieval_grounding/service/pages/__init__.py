"""The pages that people see; each module has the routes of one."""

from __future__ import annotations

from fastapi import FastAPI

__all__ = ["include_pages"]


def include_pages(app: FastAPI) -> None:
    """Add the routes of all pages to the application."""
