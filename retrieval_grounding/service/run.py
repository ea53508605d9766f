"""Running the service until it is told to end."""

from __future__ import annotations

from collections.abc import Sequence

import uvicorn

from ..index import Index
from .app import create_app
from .settings import ServiceSettings

__all__ = ["run"]

_DRAIN_SECONDS = 30


def run(indexes: Sequence[Index], settings: ServiceSettings) -> None:
    """Serve indexes until SIGTERM or Ctrl-C; requests in progress are answered first."""
    config = uvicorn.Config(
        create_app(indexes, settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        lifespan="on",
    )
    uvicorn.Server(config).run()
