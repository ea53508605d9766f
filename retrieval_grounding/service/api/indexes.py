"""What the indexes hold: facts, images, regions, skipped files."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from ...core.errors import StoreError
from ..errors import NotFoundError, RefusedError
from ..served import ServedIndex
from ..state import Service
from .answers import json_answer
from .shapes import ImageValues, picture_urls

__all__ = ["ContentHash", "IndexName", "router"]

router = APIRouter(tags=["indexes"])

_MOST_LISTED = 1000

IndexName = Annotated[str, Path(description="Name of the index.", examples=["pictures"])]
ContentHash = Annotated[str, Path(description="Hash of the image, as hits have it.")]


class IndexFacts(BaseModel):
    """What an index holds, and more with its own address."""

    model_config = ConfigDict(extra="allow")
    name: str
    images: int
    regions: int
    skipped: int


class IndexList(BaseModel):
    """The indexes; the first is meant where a request names none."""

    indexes: list[IndexFacts]


class SkippedValues(BaseModel):
    """A file that could not be indexed."""

    path: str
    reason: str
    detail: str


class SkippedList(BaseModel):
    """The files that could not be indexed."""

    skipped: list[SkippedValues]
    total: int


class ImageList(BaseModel):
    """Images by path, and after which path the next ones begin."""

    images: list[ImageValues]
    next: str | None


class RegionValues(BaseModel):
    """A region of an image; it has scores if a phrase was given."""

    region: int
    region_id: int
    box: tuple[float, float, float, float]
    label: str
    label_score: float
    score: float | None = None
    probability: float | None = None
    image_probability: float | None = None


class ImageRegions(BaseModel):
    """All regions of an image; the first is the whole image."""

    content_hash: str
    width: int
    height: int
    paths: list[str]
    regions: list[RegionValues]


@router.get("/indexes", response_model=IndexList)
def list_indexes(service: Service) -> Response:
    """List the indexes."""
    facts = [_short_facts(served, service.settings.writable) for served in service.indexes.values()]
    return json_answer({"indexes": facts})


@router.get("/indexes/{name}", response_model=IndexFacts)
def describe_index(service: Service, name: IndexName) -> Response:
    """Say what an index holds, which models built it and what runs where."""
    served = service.served(name)
    return json_answer(served.index.info() | _short_facts(served, service.settings.writable))


@router.get("/indexes/{name}/skipped", response_model=SkippedList)
def list_skipped(
    service: Service, name: IndexName, limit: Annotated[int, Query()] = _MOST_LISTED
) -> Response:
    """List files that could not be indexed, and why."""
    _check_limit(limit)
    skipped = service.served(name).index.skipped()
    values = [
        {"path": file.path, "reason": file.reason, "detail": file.detail}
        for file in skipped[:limit]
    ]
    return json_answer({"skipped": values, "total": len(skipped)})


@router.get("/indexes/{name}/images", response_model=ImageList)
def list_images(
    service: Service,
    name: IndexName,
    after: Annotated[str, Query(description="Begin after this path.")] = "",
    limit: Annotated[int, Query(description=f"At most {_MOST_LISTED}.")] = 100,
) -> Response:
    """List images, by path."""
    _check_limit(limit)
    served = service.served(name)
    rows = served.catalog.images_after(after, limit + 1)
    images = [
        {
            "path": row.path,
            "width": row.width,
            "height": row.height,
            "content_hash": row.content_hash,
            "pictures": picture_urls(served.name, row.content_hash),
        }
        for row in rows[:limit]
    ]
    more = len(rows) > limit
    return json_answer({"images": images, "next": rows[limit - 1].path if more else None})


@router.get("/indexes/{name}/images/{content_hash}/regions", response_model=ImageRegions)
def list_regions(
    service: Service, name: IndexName, content_hash: ContentHash, phrase: str | None = None
) -> Response:
    """List all regions of an image, with what each scores for a phrase."""
    limit = service.settings.limits.phrase_characters
    if phrase is not None and len(phrase) > limit:
        message = f"a phrase has at most {limit:,} characters"
        raise RefusedError(422, "too-long", message, limit)
    served = service.served(name)
    found = served.catalog.content_rows(content_hash)
    if not found or found[0][0] != content_hash:
        raise NotFoundError(f"{name} has no image with the hash {content_hash!r:.50}")
    try:
        hits = served.index.regions(content_hash, phrase)
    except StoreError:
        if served.catalog.content_rows(content_hash):
            raise
        raise NotFoundError(f"the image {content_hash} was removed meanwhile") from None
    regions: list[dict[str, Any]] = []
    for number, hit in enumerate(hits):
        values: dict[str, Any] = {
            "region": number,
            "region_id": hit.region_id,
            "box": hit.box,
            "label": hit.label,
            "label_score": hit.label_score,
        }
        if phrase is not None:
            values |= {
                "score": hit.score,
                "probability": hit.probability,
                "image_probability": hit.image_probability,
            }
        regions.append(values)
    key = found[0][1]
    images = served.catalog.images_at([key]).get(key, [])
    width, height = hits[0].image_size or (0, 0)
    return json_answer(
        {
            "content_hash": content_hash,
            "width": width,
            "height": height,
            "paths": [image.path for image in images],
            "regions": regions,
        }
    )


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= _MOST_LISTED:
        raise RefusedError(
            422, "limit", f"limit must be between 1 and {_MOST_LISTED:,}", _MOST_LISTED
        )


def _short_facts(served: ServedIndex, writable: bool) -> dict[str, Any]:
    counts = served.catalog.counts()
    return {
        "name": served.name,
        "images": counts["images"],
        "regions": counts["regions"],
        "skipped": counts["skipped"],
        "generation": served.catalog.generation,
        "writable": writable,
    }
