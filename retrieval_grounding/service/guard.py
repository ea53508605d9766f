"""Who may ask: checks of Host, Origin and token, and the headers that keep pages harmless."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import error_response
from .settings import ServiceSettings, is_loopback

__all__ = ["Guard", "cookie_name", "session_key"]

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    # Not no-referrer, with which browsers send "Origin: null" with forms.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_OPEN_TO_ALL = ("/login", "/static/", "/api/v1/health", "/api/v1/ready")


def cookie_name(settings: ServiceSettings) -> str:
    """Return the name of the cookie; services on other ports of the host share the cookies."""
    return f"rg_session_{settings.port}"


def session_key(token: str) -> str:
    """Return what the cookie of a browser that knows the token contains; not the token itself."""
    return hmac.new(token.encode(), b"retrieval_grounding session", hashlib.sha256).hexdigest()


class Guard:
    """Middleware that lets only legitimate requests through, and adds headers to every answer.

    - The host must be one of the service's own names, so that a page elsewhere cannot reach it
      under a name of its own that leads here (DNS rebinding).
    - What changes something must come from the service's own pages or from a program, and other
      sites may only link to pages (cross-site request forgery).
    - If there is a token, the request must have it, or the cookie that ``/login`` gives for it.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._settings = settings
        public = urlsplit(settings.public_url or "")
        self._public_origin = f"{public.scheme}://{public.netloc}" if public.netloc else None
        self._names = {"localhost", "127.0.0.1", "[::1]", settings.host.lower()}
        if public.hostname:
            self._names.add(public.hostname)
        self._everywhere = not is_loopback(settings.host)
        if self._everywhere:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        headers = Headers(scope=scope)
        path, method = scope["path"], scope["method"]
        refusal = self._foreign(headers, path, method) or self._unknown(headers, scope)
        await (refusal or self._app)(scope, receive, send_guarded)

    def _foreign(self, headers: Headers, path: str, method: str) -> Response | None:
        """Return a refusal of a request that comes from, or means, a different site."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            message = (
                "this is not a host of the service; ask for its own address, or start it with "
                "--public-url"
            )
            return error_response(421, "host", message)
        origin = headers.get("origin")
        own = {f"http://{hosts[0]}", f"https://{hosts[0]}", self._public_origin}
        elsewhere = origin is not None and origin not in own
        site = headers.get("sec-fetch-site", "none")
        is_link = (
            method in _SAFE_METHODS
            and headers.get("sec-fetch-mode") == "navigate"
            and not path.startswith(("/api/", "/static/"))
        )
        # Pages on other ports of the host count as "same-site".
        if elsewhere or (site not in ("same-origin", "none") and not is_link):
            return error_response(403, "origin", "other sites may not ask this service")
        return None

    def _unknown(self, headers: Headers, scope: Scope) -> Response | None:
        """Return a refusal of a request without the token."""
        token, path = self._settings.token, scope["path"]
        if token is None or path.startswith(_OPEN_TO_ALL):
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(given.strip(), token):
            return None
        if _same(_cookie(headers, cookie_name(self._settings)), session_key(token)):
            return None
        is_page = scope["method"] == "GET" and not path.startswith("/api/")
        if is_page and "text/html" in headers.get("accept", ""):
            asked = scope["query_string"].decode("latin-1")
            wanted = quote(path) + (f"?{asked}" if asked else "")
            return RedirectResponse(f"/login?next={quote(wanted, safe='')}", 303)
        message = "the token is missing or wrong; send it as 'Authorization: Bearer TOKEN'"
        return error_response(401, "token", message, {"WWW-Authenticate": "Bearer"})

    def _is_own(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].lower()
        return name in self._names or (self._everywhere and _is_address(name))


def _is_address(name: str) -> bool:
    """Return whether a name is an IP address, which no stranger can lead elsewhere."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
