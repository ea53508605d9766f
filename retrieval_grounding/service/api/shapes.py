"""What answers look like: hits and images as plain values."""

from __future__ import annotations

from typing import Any

from ...core.hits import Hit

__all__ = ["hit_values", "picture_urls"]


def hit_values(hit: Hit, index: str) -> dict[str, Any]:
    """Return a hit as plain values: those of :meth:`Hit.as_dict`, and where its pictures are."""
    values = hit.as_dict()
    values["matches"] = hit.matches
    if hit.content_hash is not None:
        values["pictures"] = picture_urls(index, hit.content_hash, hit.region_id)
    return values


def picture_urls(index: str, content_hash: str, region: int | None) -> dict[str, str]:
    """Return the URLs of the pictures of an image."""
    base = f"/api/v1/indexes/{index}"
    urls = {
        "thumbnail": f"{base}/thumbnails/{content_hash}",
        "image": f"{base}/images/{content_hash}",
    }
    if region is not None:
        urls["crop"] = f"{base}/crops/{content_hash}/{region}"
    return urls
