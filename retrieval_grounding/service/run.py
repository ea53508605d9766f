"""Running the service until it is told to end."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ..core.errors import GroundingError
from ..index import Index
from .app import create_app
from .protocol import timed_protocol
from .registry import announced
from .settings import ServiceSettings
from .state import names_of

__all__ = ["run", "server_config"]

_DRAIN_SECONDS = 30
_HEADER_BYTES = 32 << 10


def run(
    indexes: Sequence[Index], settings: ServiceSettings, started: Callable[[int], object] = int
) -> None:
    """Serve indexes until SIGTERM or Ctrl-C; requests in progress are answered first.

    Parameters
    ----------
    indexes : sequence of Index
        Open; they stay the caller's to close.
    settings : ServiceSettings
        How the service is run.
    started : callable
        Called with the number of the port as soon as connections are accepted.

    Raises
    ------
    GroundingError
        If it cannot listen on the address.
    """
    with _listen(settings) as listener:
        config = server_config(create_app(indexes, settings), settings)
        port = listener.getsockname()[1]
        here = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
        url = f"http://[{here}]:{port}" if ":" in here else f"http://{here}:{port}"
        folders = {name: index.directory for name, index in names_of(indexes).items()}
        started(port)
        # uvicorn sends itself the signal again once it has ended, for what was there before.
        usual = signal.signal(signal.SIGTERM, _end)
        try:
            with announced(url, settings.token, folders):
                uvicorn.Server(config).run(sockets=[listener])
        finally:
            signal.signal(signal.SIGTERM, usual)


def server_config(app: FastAPI, settings: ServiceSettings) -> uvicorn.Config:
    """Return how uvicorn runs an application."""
    return uvicorn.Config(
        app,
        http=timed_protocol(settings.limits),
        ws="none",
        loop="asyncio",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.limits.connections,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        lifespan="on",
    )


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _listen(settings: ServiceSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise GroundingError(
            f"cannot listen on {settings.host}, port {settings.port} "
            f"({getattr(error, 'strerror', None) or error}); choose others with --host and --port"
        ) from error
