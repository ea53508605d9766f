"""What answers look like: hits and images as plain values, and their description."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ...core.hits import Hit

__all__ = ["Answer", "Answers", "HitValues", "ImageValues", "hit_values", "picture_urls"]


class PictureUrls(BaseModel):
    """Where the pictures of an image are, relative to the service."""

    thumbnail: str
    image: str
    crop: str | None = None


class SimilarValues(BaseModel):
    """An image that was left out because a better hit shows the same."""

    image: str
    relation: str


class HitValues(BaseModel):
    """A region that a phrase refers to; see the documentation of ``rg.Hit``."""

    model_config = ConfigDict(extra="allow")
    phrase: str
    image: str = Field(description="Path, URL or content hash.")
    box: tuple[float, float, float, float] = Field(
        description="x1, y1, x2, y2 in pixels of the upright image."
    )
    score: float
    probability: float | None = Field(description="That the image shows it, and that this is it.")
    image_probability: float | None = Field(description="That the image shows it.")
    matches: bool = Field(description="Whether the image is probable enough to be an answer.")
    label: str
    label_score: float | None
    region_id: int | None
    content_hash: str | None
    image_size: tuple[int, int] | None
    id: str | None = None
    metadata: dict[str, Any] | None = None
    also: list[HitValues] | None = None
    similar: list[SimilarValues] | None = None
    pictures: PictureUrls | None = None
    explanation: dict[str, Any] | None = None


class Answer(BaseModel):
    """The hits of one query, best first."""

    query: str | None = Field(description="Its text form, if it has one.")
    title: str
    matches: bool = Field(description="False: nothing here matches.")
    hits: list[HitValues]


class Answers(BaseModel):
    """The answers to the queries of a request, in their order."""

    index: str
    min_probability: float = Field(description="Less probable images were dropped.")
    milliseconds: float
    answers: list[Answer]


class ImageValues(BaseModel):
    """An image of an index."""

    path: str
    width: int
    height: int
    content_hash: str
    pictures: PictureUrls


def hit_values(hit: Hit, index: str | None = None) -> dict[str, Any]:
    """Return a hit as plain values: those of :meth:`Hit.as_dict`, and where its pictures are.

    Unlike that, it copies nothing, which counts for many clients.
    """
    values: dict[str, Any] = {
        "phrase": hit.phrase,
        "image": hit.image,
        "box": hit.box,
        "score": hit.score,
        "probability": hit.probability,
        "label": hit.label,
        "region_id": hit.region_id,
        "content_hash": hit.content_hash,
        "label_score": hit.label_score,
        "image_size": hit.image_size,
        "image_probability": hit.image_probability,
        "matches": hit.matches,
    }
    if hit.id is not None:
        values["id"] = hit.id
    if hit.metadata:
        values["metadata"] = dict(hit.metadata)
    if hit.also:
        values["also"] = [hit_values(also, index) for also in hit.also]
    if hit.similar:
        values["similar"] = [found._asdict() for found in hit.similar]
    if index is not None and hit.content_hash is not None:
        values["pictures"] = picture_urls(index, hit.content_hash, hit.region_id)
    return values


def picture_urls(index: str, content_hash: str, region: int | None = None) -> dict[str, str]:
    """Return the URLs of the pictures of an image, and of a region of it."""
    base = f"/api/v1/indexes/{index}"
    urls = {
        "thumbnail": f"{base}/thumbnails/{content_hash}",
        "image": f"{base}/images/{content_hash}",
    }
    if region is not None:
        urls["crop"] = f"{base}/crops/{content_hash}/{region}"
    return urls
