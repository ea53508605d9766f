"""Errors as pages: one sentence, and the way out."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response

from ...core.errors import GroundingError, QueryError
from ..errors import NotFoundError
from ..state import service_of
from ..templating import page
from .address import Address
from .shell import Link, make_shell

__all__ = ["catching", "error_page"]

_HEADINGS = {
    404: "There is nothing here", 413: "That is too much", 429: "Too many at once",
    422: "This cannot be asked", 500: "That went wrong", 503: "This does not work now",
}  # fmt: skip
_AROUND = 40


def catching(route: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Let a page explain a query that cannot be answered, with the search box to mend it."""

    @functools.wraps(route)
    async def caught(*values: Any, **named: Any) -> Any:
        try:
            return await route(*values, **named)
        except QueryError as error:
            return error_page(named["request"], 422, str(error), error)

    return caught


def error_page(
    request: Request, status: int, sentence: str, error: GroundingError | None = None
) -> Response:
    """Return a page that says what is wrong."""
    service, address = service_of(request), Address.read(request.query_params)
    try:
        served = service.served(address.index)
    except NotFoundError:
        served, address = service.served(), Address()
    shell = make_shell(service, served, address)
    heading = _HEADINGS.get(status, _HEADINGS[500])
    ways = [Link("See what this collection shows", shell.home), Link("How to ask", shell.help)]
    return page(
        "problem.html",
        status,
        title=f"{heading} · {shell.site}",
        shell=shell,
        heading=heading,
        message=sentence,
        marked=_marked(error),
        ways=ways,
    )


def _marked(error: GroundingError | None) -> dict[str, str] | None:
    """Return the text of a query around the character where the problem begins."""
    if not isinstance(error, QueryError) or error.position is None or not error.text:
        return None
    text, at = error.text, error.position
    return {
        "before": text[max(0, at - _AROUND) : at],
        "at": text[at : at + 1] or "⌷",
        "after": text[at + 1 : at + _AROUND],
    }
