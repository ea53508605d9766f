"""The application: state, guards, routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from ..core.version import __version__
from ..index import Index
from . import login
from .api import PREFIX, include_api
from .errors import CatchErrors, add_error_handlers
from .guard import Guard
from .limits import LimitRequests
from .metrics import Metrics, Observe
from .pages import include_pages
from .settings import ServiceSettings
from .state import ServiceState
from .templating import STATIC_FOLDER

__all__ = ["create_app"]

_ABOUT = "Find the region a phrase refers to, in whole collections of images."


def create_app(indexes: Sequence[Index], settings: ServiceSettings) -> FastAPI:
    """Return the application that serves open indexes.

    Parameters
    ----------
    indexes : sequence of Index
        At least one; they stay the caller's to close.
    settings : ServiceSettings
        How it is run.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = state = ServiceState(indexes, settings, metrics)
        yield
        await state.close()

    # FastAPI's own pages of documentation load scripts from elsewhere.
    app = FastAPI(
        title="retrieval_grounding",
        description=_ABOUT,
        version=__version__,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    add_error_handlers(app)
    include_api(app)
    app.include_router(login.router)
    include_pages(app)
    app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
    # The last is the first that a request meets.
    app.add_middleware(LimitRequests, limits=settings.limits)
    app.add_middleware(CatchErrors)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Observe, metrics=metrics)
    return app
