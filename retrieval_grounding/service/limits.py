"""How much one request, and all of them together, may ask of the service."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Limits of the service; what goes beyond is refused with an answer that names the limit.

    Parameters
    ----------
    body_bytes : int
        Size of a request, and so of an image in it.
    queries : int
        Queries in one request.
    phrase_characters : int
        Length of a phrase or of the text of a query.
    top, candidates : int
        Hits, and candidate images, of one query.
    pixels : int
        Pixels of an image in a request.
    requests : int
        Requests that are being answered at the same time.
    connections : int
        Open connections.
    header_seconds, body_seconds, stalled_seconds : float
        How long a client may take to send the header of a request, to send all of it, and to read
        the next part of an answer.
    upload_bytes : int
        All images together that are kept as examples for later queries.
    """

    body_bytes: int = 32 << 20
    queries: int = 64
    phrase_characters: int = 1000
    top: int = 1000
    candidates: int = 5000
    pixels: int = 64_000_000
    requests: int = 128
    connections: int = 1024
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    stalled_seconds: float = 60.0
    upload_bytes: int = 128 << 20
