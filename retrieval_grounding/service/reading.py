"""Queries as clients write them, as text or as JSON, read into the one value that they all are."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from ..core.errors import GroundingError
from ..core.query.examples import Example
from ..core.query.filters import Filters
from ..core.query.text import Grouping, Scope
from ..core.query.value import Query
from .batching import Asking
from .errors import RefusedError
from .limits import Limits
from .state import ServiceState

__all__ = ["ExampleValues", "FilterValues", "QueryValues", "check_asking", "read_query"]

_STRICT = ConfigDict(extra="forbid")


class ExampleValues(BaseModel):
    """Something to look like: a region of the index, an image, or a vector."""

    model_config = _STRICT
    content_hash: str | None = Field(None, description="Hash of an image of the index.")
    region: int | None = Field(None, description="Its number in the image, or its region_id.")
    upload: str | None = Field(None, description="What POST /uploads answered.")
    image: str | None = Field(None, description="The bytes of an image file, in base64.")
    box: tuple[float, float, float, float] | None = Field(
        None, description="x1, y1, x2, y2 in pixels of the upright image."
    )
    vector: list[float] | None = Field(None, description="An embedding of the index's encoder.")
    weight: float = 1.0


class FilterValues(BaseModel):
    """Which images and regions may be found."""

    model_config = _STRICT
    labels: list[str] = []
    without_labels: list[str] = []
    folders: list[str] = []
    without_folders: list[str] = []
    min_size: float | None = None
    max_size: float | None = None
    since: str | None = None
    until: str | None = None
    where: str | None = None


class QueryValues(BaseModel):
    """A query in parts; see the documentation of ``rg.Query``."""

    model_config = _STRICT
    phrase: str | None = None
    unwanted: list[str] = []
    also: list[str] = []
    like: list[ExampleValues] = []
    filters: FilterValues = FilterValues()
    top: int | None = None
    min_probability: float | None = None
    scope: Scope = "image"
    unique: Grouping | None = None
    diverse: bool = False


async def read_query(service: ServiceState, given: str | QueryValues) -> Query:
    """Return the query that a client wrote, as text or in parts.

    In the text, ``like:UPLOAD`` and ``like:UPLOAD:x1,y1,x2,y2`` name an image that was sent before.
    No other names are read: a client must not choose which files or servers this process reads.

    Raises
    ------
    QueryError, PhraseError
        If it is not a query.
    RefusedError
        If it is beyond a limit, or names a file or URL.
    NotFoundError
        If an image that was sent before is no longer here.
    """
    limits = service.settings.limits
    if isinstance(given, str):
        _check_length(given, limits)
        query = Query.parse(given)
    else:
        for text in (given.phrase, *given.unwanted, *given.also, given.filters.where):
            _check_length(text or "", limits)
        query = Query(
            given.phrase,
            tuple(given.unwanted),
            tuple(given.also),
            tuple(map(_example, given.like)),
            Filters(**given.filters.model_dump()),
            given.top,
            given.min_probability,
            given.scope,
            given.unique,
            given.diverse,
        )
    if query.top is not None:
        _check_number("top", query.top, limits.top)
    return replace(query, like=tuple([await _with_pixels(service, one) for one in query.like]))


def check_asking(asking: Asking, limits: Limits) -> Asking:
    """Return how to answer, if it is within the limits.

    Raises
    ------
    RefusedError
        If it is not.
    """
    _check_number("top", asking.top, limits.top)
    _check_number("candidates", asking.candidates, limits.candidates)
    minimum = asking.min_probability
    if minimum is not None and not 0 <= minimum <= 1:
        raise GroundingError(f"min_probability must be between 0 and 1, not {minimum}")
    return asking


def _check_number(name: str, number: int, limit: int) -> None:
    if not 1 <= number <= limit:
        raise RefusedError(
            422, "limit", f"{name} must be between 1 and {limit:,}, not {number}", limit
        )


def _check_length(text: str, limits: Limits) -> None:
    limit = limits.phrase_characters
    if len(text) > limit:
        raise RefusedError(
            422, "too-long", f"a phrase or query has at most {limit:,} characters", limit
        )


def _example(given: ExampleValues) -> Example:
    image: object = None
    if given.upload is not None:
        image = given.upload
    elif given.image is not None:
        try:
            image = base64.b64decode(given.image, validate=True)
        except (binascii.Error, ValueError) as error:
            raise GroundingError("the image of an example is not base64") from error
    vector = None if given.vector is None else tuple(given.vector)
    return Example(image, given.box, given.content_hash, given.region, vector, given.weight)


async def _with_pixels(service: ServiceState, example: Example) -> Example:
    """Return an example with the pixels of its image, decoded apart from this process."""
    image = example.image
    if image is None:
        return example
    if isinstance(image, bytes):
        decoding = service.decoding
        return replace(example, image=await decoding.run(lambda: decoding.decode(image)))
    if not service.uploads.is_name(str(image)):
        raise RefusedError(
            422,
            "like",
            f"{str(image)[:80]!r} is no example here: the service reads no files and no URLs, so "
            "send the image to /api/v1/uploads and name what that answers",
        )
    return replace(example, image=await service.uploads.image(str(image)))
