"""Signing in with the token, for browsers, which cannot send headers of their own."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response

from .guard import cookie_name, session_key
from .state import Service
from .templating import page

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_SECONDS = 30 * 24 * 3600


@router.get("/login")
async def show_form(next: str = "/") -> Response:
    """Ask for the token."""
    return page("login.html", next=_own(next), wrong=False)


@router.post("/login")
async def sign_in(
    service: Service, token: Annotated[str, Form()] = "", next: Annotated[str, Form()] = "/"
) -> Response:
    """Give the browser a cookie if it knows the token."""
    settings = service.settings
    wanted = settings.token
    if wanted is None:
        return RedirectResponse(_own(next), 303)
    if not hmac.compare_digest(token.strip().encode("utf-8", "replace"), wanted.encode()):
        return page("login.html", 401, next=_own(next), wrong=True)
    answer = RedirectResponse(_own(next), 303)
    answer.set_cookie(
        cookie_name(settings),
        session_key(wanted),
        max_age=_SECONDS,
        httponly=True,
        samesite="strict",
        secure=(settings.public_url or "").startswith("https:"),
    )
    return answer


def _own(path: str) -> str:
    """Return a path of this service, whatever was given: two slashes would begin a host."""
    plain = path.isascii() and path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") else "/"
