"""Connections that send without delay, and end when their client takes too long."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..core.strict_json import json_text
from .limits import Limits

__all__ = ["timed_protocol"]

_TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)


def timed_protocol(limits: Limits) -> type[H11Protocol]:
    """Return uvicorn's protocol, with the limits of time that it does not have itself."""

    class TimedProtocol(H11Protocol):
        """A connection: header, rest of the request and reading each have their time."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._awaited: str | None = None
            self._sending: asyncio.TimerHandle | None = None
            self._stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # Or else the body waits until the client has acknowledged the header, up to 40 ms.
            # asyncio sees to that only for sockets that were made with the number of the protocol.
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._await("header")

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._look()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._look()

        def connection_lost(self, exc: Exception | None) -> None:
            self._await(None)
            self.resume_writing()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stalled = self.loop.call_later(limits.stalled_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._stalled is not None:
                self._stalled.cancel()
                self._stalled = None

        def _look(self) -> None:
            """Note what the client has still to send."""
            state = self.conn.their_state
            if state is h11.SEND_BODY:
                self._await("body")
            elif state is h11.IDLE and self.conn.trailing_data[0]:
                self._await("header")
            else:
                self._await(None)

        def _await(self, part: str | None) -> None:
            if part == self._awaited:
                return
            self._awaited = part
            if self._sending is not None:
                self._sending.cancel()
                self._sending = None
            if part is not None:
                seconds = limits.header_seconds if part == "header" else limits.body_seconds
                self._sending = self.loop.call_later(seconds, self._expire, part, seconds)

        def _expire(self, part: str, seconds: float) -> None:
            """End the connection, with an answer unless one is on its way."""
            self._sending = None
            if self.transport.is_closing() or self.conn.our_state not in (
                h11.IDLE,
                h11.SEND_RESPONSE,
            ):
                self.transport.abort()
                return
            sentence = json_text(
                {
                    "error": f"the {part} of a request must arrive within {seconds:g} seconds",
                    "kind": "too-slow",
                    "limit": seconds,
                }
            )
            self.transport.write(_TOO_SLOW % (len(sentence), sentence.encode()))
            if self.cycle is not None:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            self.transport.close()

    return TimedProtocol
