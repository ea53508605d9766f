"""Errors as answers: a status and one sentence in JSON, never a traceback."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..core.errors import (
    FeedbackError,
    GroundingError,
    ImageError,
    MetadataError,
    PhraseError,
    QueryError,
    StoreLockedError,
)

__all__ = [
    "ERROR_ANSWERS",
    "CatchErrors",
    "ErrorAnswer",
    "NotFoundError",
    "RefusedError",
    "add_error_handlers",
    "error_response",
]

logger = logging.getLogger(__name__)

_UNPROCESSABLE = (PhraseError, QueryError, ImageError, MetadataError, FeedbackError)
_LONGEST_PART = 300  # characters of what a client sent that an error repeats


class ErrorAnswer(BaseModel):
    """What an error looks like."""

    error: str = Field(description="One sentence that says what to do next.")
    kind: str = Field(description="A fixed name, for programs.")
    reason: str | None = Field(None, description="Of an image that cannot be used.")
    position: int | None = Field(None, description="Where in the text of a query the problem is.")
    limit: float | None = Field(None, description="The limit that was exceeded.")


_MEANINGS = {
    400: "The request cannot be read.",
    401: "The token is missing or wrong.",
    403: "The request comes from a different site, or the service is read-only.",
    404: "There is nothing of this name or hash.",
    405: "The method is not one of this address.",
    408: "The request took too long to arrive.",
    409: "A different writer is at work on the index.",
    413: "The request is too large.",
    421: "The host is not one of this service.",
    422: "A value, a phrase or an image cannot be used.",
    429: "The service is busy.",
    503: "The index cannot be used at the moment.",
}

ERROR_ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": meaning} for status, meaning in _MEANINGS.items()
}
"""For the description of routes."""


class NotFoundError(GroundingError):
    """Nothing has the name, hash or number of a request."""


class RefusedError(GroundingError):
    """A request goes beyond a limit, or asks for what is not allowed.

    Parameters
    ----------
    status : int
        Of the answer.
    kind : str
        A fixed name.
    message : str
        One sentence.
    limit : number, optional
        What was exceeded.
    """

    def __init__(self, status: int, kind: str, message: str, limit: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.limit = limit


def error_response(
    status: int, kind: str, message: str, headers: dict[str, str] | None = None, **details: object
) -> JSONResponse:
    """Return an error as an answer; `details` that are None are left out."""
    known = {name: value for name, value in details.items() if value is not None}
    # What a client sent may hold lone surrogates, which no encoding of an answer has.
    readable = message.encode("utf-8", "replace").decode("utf-8")
    return JSONResponse({"error": readable, "kind": kind, **known}, status, headers)


def answer_error(error: GroundingError) -> JSONResponse:
    """Return an error of the library as an answer."""
    message, kind = str(error), type(error).__name__
    if isinstance(error, RefusedError):
        headers = {"Retry-After": "1"} if error.status == 429 else None
        return error_response(error.status, error.kind, message, headers, limit=error.limit)
    if isinstance(error, NotFoundError):
        return error_response(404, "not-found", message)
    if isinstance(error, StoreLockedError):
        return error_response(409, kind, message, {"Retry-After": "5"})
    if isinstance(error, _UNPROCESSABLE):
        reason, position = getattr(error, "reason", None), getattr(error, "position", None)
        return error_response(422, kind, message, reason=reason, position=position)
    if type(error) is GroundingError:  # a value that does not fit, such as a minimum probability
        return error_response(422, kind, message)
    logger.error("%s", error)
    return error_response(503, kind, message, {"Retry-After": "5"})


def add_error_handlers(app: FastAPI) -> None:
    """Let every error of a route become an answer."""

    async def of_library(request: Request, error: Exception) -> Response:
        assert isinstance(error, GroundingError)
        return _for_people(request, answer_error(error), str(error))

    async def of_request(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])[:_LONGEST_PART]
        message = f"{where or 'the request'}: {first['msg'][:_LONGEST_PART]}"
        return _for_people(request, error_response(422, "request", message), message)

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers) if error.headers else None
        message = _MEANINGS.get(error.status_code, str(error.detail))
        answer = error_response(error.status_code, "http", message, headers)
        return _for_people(request, answer, message)

    app.add_exception_handler(GroundingError, of_library)
    app.add_exception_handler(RequestValidationError, of_request)
    app.add_exception_handler(HTTPException, of_http)


class CatchErrors:
    """Middleware that answers what nobody expected with one sentence; the log has the rest.

    That of the framework is outside all others, so that its answers would lack their headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        started = False

        async def send_noticed(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noticed)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            request = Request(scope)
            logger.error("%s %s", request.method, request.url.path, exc_info=error)
            message = "the service has failed at this; its log says how, please report it"
            answer = error_response(500, "internal", message)
            await _for_people(request, answer, message)(scope, receive, send)


def _for_people(request: Request, answer: JSONResponse, message: str) -> Response:
    """Return an error as a page, if a browser asked for one."""
    wants_page = "text/html" in request.headers.get("accept", "")
    if request.url.path.startswith("/api/") or not wants_page:
        return answer
    show = getattr(request.app.state, "error_page", None)
    return answer if show is None else show(request, answer.status_code, message)
