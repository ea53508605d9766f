"""Errors as answers: a status and one sentence in JSON, never a traceback."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from ..core.errors import (
    GroundingError,
    ImageError,
    MetadataError,
    PhraseError,
    QueryError,
    StoreLockedError,
)

__all__ = ["ErrorAnswer", "NotFoundError", "RefusedError", "add_error_handlers", "error_response"]

logger = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[GroundingError], int], ...] = (
    (PhraseError, 422),
    (QueryError, 422),
    (ImageError, 422),
    (MetadataError, 422),
    (StoreLockedError, 409),
)


class ErrorAnswer(BaseModel):
    """What an error looks like."""

    error: str = Field(description="One sentence that says what to do next.")
    kind: str = Field(description="A fixed name, for programs.")
    position: int | None = Field(None, description="Where in the text of a query the problem is.")
    limit: int | float | None = Field(None, description="The limit that was exceeded.")


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
    status: int,
    kind: str,
    message: str,
    *,
    position: int | None = None,
    limit: float | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Return an error as an answer."""
    content: dict[str, object] = {"error": message, "kind": kind}
    if position is not None:
        content["position"] = position
    if limit is not None:
        content["limit"] = limit
    return JSONResponse(content, status, headers)


def add_error_handlers(app: FastAPI) -> None:
    """Let every error of a route become an answer."""

    async def of_library(request: Request, error: Exception) -> Response:
        assert isinstance(error, GroundingError)
        if isinstance(error, RefusedError):
            headers = {"Retry-After": "1"} if error.status == 429 else None
            return error_response(
                error.status, error.kind, str(error), limit=error.limit, headers=headers
            )
        if isinstance(error, NotFoundError):
            return error_response(404, "not-found", str(error))
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 503)
        if status == 503:
            logger.error("%s %s: %s", request.method, request.url.path, error)
        kind = error.reason if isinstance(error, ImageError) else type(error).__name__
        headers = {"Retry-After": "5"} if status in (409, 503) else None
        position = error.position if isinstance(error, QueryError) else None
        return error_response(status, kind, str(error), position=position, headers=headers)

    async def of_request(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
        return error_response(422, "request", f"{where or 'the request'}: {first['msg']}")

    async def of_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers) if error.headers else None
        return error_response(error.status_code, "http", str(error.detail), headers=headers)

    async def unexpected(request: Request, error: Exception) -> Response:
        logger.error("%s %s", request.method, request.url.path, exc_info=error)
        return error_response(
            500, "internal", "the service has failed at this; its log says how, please report it"
        )

    app.add_exception_handler(GroundingError, of_library)
    app.add_exception_handler(RequestValidationError, of_request)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(Exception, unexpected)
