"""Pictures of images, by content hash."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import Response

from ...data.thumbnails import THUMBNAIL_SIDE
from ..errors import RefusedError
from ..pictures import MAX_SIDE
from ..state import Service
from .indexes import ContentHash, IndexName

__all__ = ["router"]

router = APIRouter(tags=["pictures"])

_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "The client has it."},
}
_KEEP = "private, max-age=86400, immutable"

Side = Annotated[int, Query(description=f"Longest side in pixels, at most {MAX_SIDE}.")]
Known = Annotated[str | None, Header(alias="If-None-Match")]


@router.get("/indexes/{name}/images/{content_hash}", response_class=Response, responses=_JPEG)
async def show_image(
    service: Service,
    name: IndexName,
    content_hash: ContentHash,
    side: Side = 2048,
    known: Known = None,
) -> Response:
    """Return an image, upright and without its metadata."""
    _check_side(side)
    served = service.served(name)
    return _jpeg(await service.pictures.image(served, content_hash, side), known)


@router.get("/indexes/{name}/thumbnails/{content_hash}", response_class=Response, responses=_JPEG)
async def show_thumbnail(
    service: Service, name: IndexName, content_hash: ContentHash, known: Known = None
) -> Response:
    """Return a small copy of an image, the one that the index keeps if it does."""
    served = service.served(name)
    return _jpeg(await service.pictures.thumbnail(served, content_hash), known)


@router.get(
    "/indexes/{name}/crops/{content_hash}/{region}", response_class=Response, responses=_JPEG
)
async def show_crop(
    service: Service,
    name: IndexName,
    content_hash: ContentHash,
    region: Annotated[int, Path(description="Number in the image, or region_id of a hit.")],
    side: Side = THUMBNAIL_SIDE,
    known: Known = None,
) -> Response:
    """Return a region of an image."""
    _check_side(side)
    served = service.served(name)
    return _jpeg(await service.pictures.crop(served, content_hash, region, side), known)


def _check_side(side: int) -> None:
    if not 1 <= side <= MAX_SIDE:
        raise RefusedError(
            422, "limit", f"side must be between 1 and {MAX_SIDE:,}, not {side}", MAX_SIDE
        )


def _jpeg(data: bytes, known: str | None) -> Response:
    tag = f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": _KEEP}
    if known == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)
