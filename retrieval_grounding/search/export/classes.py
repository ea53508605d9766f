"""What data sets of detections are made of: phrases as classes, hits by photograph."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.hits import Hit
from ...data.images import load_image

__all__ = ["by_image", "confidence", "phrases_of", "size_of"]


def phrases_of(hits: Sequence[Hit]) -> list[str]:
    """Return the phrases of hits, each once, in the order in which they first occur."""
    return list(dict.fromkeys(hit.phrase for hit in hits))


def by_image(hits: Sequence[Hit]) -> dict[str, list[Hit]]:
    """Return the hits of each photograph by its path, in the order in which they first occur."""
    groups: dict[str, list[Hit]] = {}
    for hit in hits:
        groups.setdefault(hit.image, []).append(hit)
    return groups


def confidence(hit: Hit) -> float:
    """Return the probability of a hit, or its score if it has none."""
    return hit.score if hit.probability is None else hit.probability


def size_of(hit: Hit) -> tuple[int, int]:
    """Return width and height of the upright photograph, which is read only if the hit lacks them.

    Raises
    ------
    ImageError
        If it has to be read and cannot be.
    """
    return hit.image_size or load_image(hit.image, hit.content_hash).size
