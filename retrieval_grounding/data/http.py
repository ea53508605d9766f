"""Reading from HTTP servers, which may be slow, endless or lead somewhere else."""

from __future__ import annotations

import contextlib
import functools
import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import IO, Any

from ..core.errors import ImageError
from ..core.version import __version__

__all__ = ["read_http"]


_SECONDS = 60.0
"""What a whole transfer may take."""

_SECONDS_OF_SILENCE = 10.0
_MAX_REDIRECTS = 5
_BLOCK = 1 << 16
_SAFE = "%/:=&?~#+!$,;'@()*[]"  # what quoting leaves as it is, so URLs that are quoted stay so
_HEADERS = {
    "User-Agent": f"retrieval_grounding/{__version__}",
    "Accept": "image/*,*/*;q=0.5",
    "Accept-Encoding": "identity",  # so what is counted is what the image takes
}


class _RefusedError(ValueError):
    """A place to which nothing is sent."""


class _Course:
    """What is known of one transfer, through all its redirects."""

    def __init__(self) -> None:
        self.expired = False
        self._public = False
        self._socket: socket.socket | None = None

    def connect(self, proxied: bool, *arguments: Any, **options: Any) -> socket.socket:
        """Connect to a server, unless it is one to which nothing is sent."""
        connected = socket.create_connection(*arguments, **options)
        try:
            if not proxied:
                self._check(ipaddress.ip_address(connected.getpeername()[0].partition("%")[0]))
        except BaseException:
            connected.close()
            raise
        self.watch(connected)
        return connected

    def _check(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        if address.is_link_local:  # where clouds keep the secrets of their machines
            raise _RefusedError(f"{address} is a link-local address")
        if self._public and not _is_public(address):
            raise _RefusedError(f"it redirects to {address}, which is not a public address")
        self._public = _is_public(address)

    def watch(self, connected: socket.socket) -> None:
        """Remember what to end when time is up."""
        self._socket = connected

    def expire(self) -> None:
        """End the transfer, whatever it waits for."""
        self.expired = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global


class _Request(urllib.request.Request):
    def __init__(self, url: str, course: _Course) -> None:
        super().__init__(url, headers=_HEADERS)
        self.course = course


class _Connection(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, request: _Request, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._course = request.course
        self._create_connection = functools.partial(self._course.connect, request.has_proxy())

    def connect(self) -> None:
        super().connect()
        self._course.watch(self.sock)  # with TLS, a different one


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        assert isinstance(req, _Request)
        return self.do_open(functools.partial(_Connection, request=req), req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        assert isinstance(req, _Request)
        context = ssl.create_default_context()
        connection = functools.partial(_SecureConnection, request=req, context=context)
        return self.do_open(connection, req)


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = _MAX_REDIRECTS
    max_repeats = 1

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any,
        newurl: str,
    ) -> urllib.request.Request:  # fmt: skip
        assert isinstance(req, _Request)
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type, scheme) == ("https", "http"):
            raise _RefusedError(f"it redirects from {req.type} to {scheme}")
        return _Request(newurl, req.course)


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    """Return what opens URLs: HTTP alone, not ``file:``, ``ftp:`` and ``data:`` as by default."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        _Http(),
        _Https(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def read_http(url: str, limit: int, stopping: Callable[[], bool] = lambda: False) -> bytes:
    """Return the bytes behind an HTTP or HTTPS URL.

    At most five redirects are followed: never to another scheme than these two, from HTTPS to HTTP,
    or from a public server to one that only this machine or its network can reach.

    Parameters and errors are those of :func:`.remote.read_url`.
    """
    course = _Course()
    timer = threading.Timer(_SECONDS, course.expire)
    timer.daemon = True
    timer.start()
    try:
        return _read(url, course, limit, stopping)
    except _RefusedError as error:
        raise ImageError("url-refused", f"{url}: {error}") from error
    except urllib.error.HTTPError as error:
        error.close()
        refused = "url-refused" if error.code < 400 else "unreadable"  # redirects without an end
        reason = "missing" if error.code in (404, 410) else refused
        detail = f"{url}: the server answers {error.code} {error.reason}"
        raise ImageError(reason, detail) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, _RefusedError):
            raise ImageError("url-refused", f"{url}: {error.reason}") from error
        raise ImageError("unreadable", f"{url} cannot be reached: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        detail = str(error) or type(error).__name__
        raise ImageError("unreadable", f"{url} cannot be read: {detail}") from error
    except ValueError as error:
        raise ImageError("url-refused", f"{url} is not a URL: {error}") from error
    except MemoryError as error:
        raise ImageError("out-of-memory", f"{url} does not fit into memory") from error
    finally:
        timer.cancel()


def _read(url: str, course: _Course, limit: int, stopping: Callable[[], bool]) -> bytes:
    request = _Request(urllib.parse.quote(url, safe=_SAFE), course)
    data = bytearray()
    with _opener().open(request, timeout=_SECONDS_OF_SILENCE) as response:
        length = response.headers.get("Content-Length", "")
        claimed = int(length) if length.isdecimal() else 0
        while claimed <= limit and len(data) <= limit and (block := response.read1(_BLOCK)):
            data += block
            if stopping():
                raise ImageError("unreadable", f"{url}: the transfer was stopped")
    if course.expired:
        raise ImageError("unreadable", f"{url} took more than {_SECONDS:g} s")
    if max(claimed, len(data)) > limit:
        raise ImageError("too-large", f"{url} has more than {limit:,} bytes")
    if len(data) < claimed:
        raise ImageError("unreadable", f"{url}: the connection broke off")
    return bytes(data)
