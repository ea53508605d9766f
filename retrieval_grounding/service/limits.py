"""How much one request, and all of them together, may ask of the service."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import error_response

__all__ = ["LimitRequests", "Limits"]


@dataclass(frozen=True)
class Limits:
    """Limits of the service; what goes beyond is refused with an answer that names the limit.

    Parameters
    ----------
    body_bytes : int
        Size of a request, and so of an image in it.
    bodies_bytes : int
        All requests together that are in memory.
    queries : int
        Queries, or phrases for one image, in one request.
    phrase_characters : int
        Length of a phrase or of the text of a query.
    top, candidates : int
        Hits, and candidate images, of one query.
    explained : int
        Hits that are explained in one request.
    pixels : int
        Pixels of an image in a request.
    requests : int
        Requests that are being answered at the same time.
    connections : int
        Open connections.
    header_seconds, body_seconds, stalled_seconds : float
        How long a client may take to send the header of a request, to send the rest of it, and to
        read the next part of an answer.
    upload_bytes : int
        All images together that are kept as examples for later queries.
    """

    body_bytes: int = 32 << 20
    bodies_bytes: int = 256 << 20
    queries: int = 64
    phrase_characters: int = 1000
    top: int = 1000
    candidates: int = 1000
    explained: int = 100
    pixels: int = 64_000_000
    requests: int = 128
    connections: int = 1024
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    stalled_seconds: float = 60.0
    upload_bytes: int = 128 << 20


class LimitRequests:
    """Middleware that reads requests up to their limits before anything else happens with them.

    A slow client therefore holds memory, which is limited, and a connection, whose time is
    limited (:mod:`.protocol`), but no place among the requests that are being answered.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._bytes = 0
        self._answering = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        try:
            refusal = await self._read(scope, receive, body)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
            if self._answering >= self._limits.requests:
                await self._busy(self._limits.requests, "requests are being answered")(
                    scope, receive, send
                )
                return
            self._answering += 1
            try:
                await self._app(scope, _replay(bytes(body), receive), send)
            finally:
                self._answering -= 1
        finally:
            self._bytes -= len(body)

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> ASGIApp | None:
        """Read a request into `body`; return a refusal if it is too large."""
        limit = self._limits.body_bytes
        too_large = error_response(
            413, "too-large", f"a request has at most {limit:,} bytes", limit=limit
        )
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > limit:  # h11 has checked that it is one
                return too_large
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return _nothing
            part = message.get("body", b"")
            body += part
            self._bytes += len(part)
            if len(body) > limit:
                return too_large
            if self._bytes > self._limits.bodies_bytes:
                return self._busy(self._limits.bodies_bytes, "bytes of requests are in memory")
            if not message.get("more_body", False):
                return None

    @staticmethod
    def _busy(limit: int, what: str) -> ASGIApp:
        message = f"the service is busy: {limit:,} {what}; ask again in a second"
        return error_response(429, "busy", message, {"Retry-After": "1"}, limit=limit)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a client that is gone."""


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return what gives the application a request that was read already."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
