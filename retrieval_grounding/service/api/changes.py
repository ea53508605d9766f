"""Adding and removing images, where the service is started with ``--writable``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BaseModel

from ...core.errors import ImageError, MetadataError
from ...core.strict_json import parse_json
from ...data.image_source import hash_content
from ..errors import NotFoundError, RefusedError
from ..state import Service, ServiceState
from .answers import json_answer
from .ground import IMAGE_BODY, image_body
from .indexes import ContentHash, IndexName

__all__ = ["router"]

router = APIRouter(tags=["changes"])

_WAIT_SECONDS = 10.0


class AddedAnswer(BaseModel):
    """What became of an image: queries find it at once."""

    content_hash: str
    outcome: str
    regions: int


class RemovedAnswer(BaseModel):
    """How many paths had the content that was removed."""

    removed: int


@router.post(
    "/indexes/{name}/images",
    response_model=AddedAnswer,
    status_code=201,
    openapi_extra=IMAGE_BODY,
)
async def add_image(
    service: Service,
    request: Request,
    name: IndexName,
    id: Annotated[str | None, Query(description="How you call the image.")] = None,
    metadata: Annotated[str | None, Query(description="Values by column: a JSON object.")] = None,
) -> Response:
    """Add an image to an index."""
    _check_writable(service)
    served = service.served(name)
    values = _metadata(metadata)
    data = await image_body(request)

    def add() -> Any:
        # Decoded apart from this process, with its limit of pixels, before the index sees it.
        service.decoding.decode(data)
        return served.index.add(
            data,
            ids=None if id is None else [id],
            metadata=None if values is None else [values],
            timeout=_WAIT_SECONDS,
        )

    async with service.writing:
        report = await run_in_threadpool(add)
    if report.skipped:
        raise ImageError(report.skipped[0].reason, report.skipped[0].detail)
    outcomes = ("added", "updated", "unchanged", "duplicates")
    outcome = next((one for one in outcomes if getattr(report, one)), "unchanged")
    answer = {"content_hash": hash_content(data), "outcome": outcome, "regions": report.regions}
    return json_answer(answer, 201)


@router.delete("/indexes/{name}/images/{content_hash}", response_model=RemovedAnswer)
async def remove_image(service: Service, name: IndexName, content_hash: ContentHash) -> Response:
    """Remove an image from an index; its files stay."""
    _check_writable(service)
    served = service.served(name)

    def remove() -> int:
        found = served.catalog.content_rows(content_hash)
        if not found or found[0][0] != content_hash:
            raise NotFoundError(f"{name} has no image with the hash {content_hash!r:.50}")
        key = found[0][1]
        paths = [image.path for image in served.catalog.images_at([key]).get(key, [])]
        return served.index.remove(paths, timeout=_WAIT_SECONDS)

    async with service.writing:
        return json_answer({"removed": await run_in_threadpool(remove)})


def _check_writable(service: ServiceState) -> None:
    if not service.settings.writable:
        raise RefusedError(
            403, "read-only", "the service changes nothing; start it with --writable"
        )


def _metadata(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        values = parse_json(text)
    except ValueError as error:
        raise MetadataError(f"the metadata is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise MetadataError("the metadata is not a JSON object of values by column")
    return values
