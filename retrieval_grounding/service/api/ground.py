"""Grounding phrases in an image that a client sends, and keeping such images as examples."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BaseModel

from ...core.errors import ImageError
from ...core.phrases import clean_phrase
from ...search.ground import ground
from ..errors import RefusedError
from ..state import Service
from .answers import json_answer
from .shapes import HitValues, hit_values

__all__ = ["IMAGE_BODY", "image_body", "router"]

router = APIRouter(tags=["images of your own"])

IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of an image file.",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""For the description of routes that take an image."""


class GroundAnswer(BaseModel):
    """The best region of the image for each phrase."""

    hits: list[HitValues]


class UploadAnswer(BaseModel):
    """How queries name the image."""

    upload: str
    width: int
    height: int


async def image_body(request: Request) -> bytes:
    """Return the image that a request consists of."""
    data = await request.body()
    if not data:
        raise ImageError("empty", "the request has no image; send the bytes of a file")
    return data


@router.post("/ground", response_model=GroundAnswer, openapi_extra=IMAGE_BODY)
async def ground_phrases(
    service: Service,
    request: Request,
    phrase: Annotated[list[str], Query(description="What to find; may be repeated.")],
    index: str | None = None,
) -> Response:
    """Find the region of an image that each phrase refers to, with the models of an index."""
    limits = service.settings.limits
    if len(phrase) > limits.queries:
        message = f"a request has at most {limits.queries} phrases"
        raise RefusedError(422, "limit", message, limits.queries)
    if any(len(text) > limits.phrase_characters for text in phrase):
        message = f"a phrase has at most {limits.phrase_characters:,} characters"
        raise RefusedError(422, "too-long", message, limits.phrase_characters)
    phrases = [clean_phrase(text) for text in phrase]
    served = service.served(index)
    data = await image_body(request)
    pixels = await service.decoding.run(lambda: service.decoding.decode(data))
    models = await run_in_threadpool(served.models)
    async with service.grounding:
        hits = await run_in_threadpool(
            ground, pixels, phrases, detector=models.detector, clip=models.encoder
        )
    return json_answer({"hits": [hit_values(hit) for hit in hits]})


@router.post("/uploads", response_model=UploadAnswer, status_code=201, openapi_extra=IMAGE_BODY)
async def keep_image(service: Service, request: Request) -> Response:
    """Keep an image in memory for a while, as an example for queries: like:UPLOAD."""
    upload = await service.uploads.add(await image_body(request))
    answer = {"upload": upload.name, "width": upload.width, "height": upload.height}
    return json_answer(answer, 201)


@router.get(
    "/uploads/{upload}", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}}
)
async def show_upload(service: Service, upload: str) -> Response:
    """Return an image that was kept."""
    data = await service.uploads.jpeg(upload)
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(data, media_type="image/jpeg", headers=headers)
