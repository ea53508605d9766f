"""Hits with the ids and the metadata of their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..core.hits import Hit
from ..storage.catalog import Catalog
from ..storage.metadata import ImageMetadata

__all__ = ["with_metadata"]


_NOTHING = ImageMetadata(None, {})


def with_metadata(catalog: Catalog, hits: Sequence[list[Hit]]) -> list[list[Hit]]:
    """Return hits with what the user said about their images."""
    known = catalog.metadata_of([hit.image for own in hits for hit in own])
    return [[_described(hit, known.get(hit.image, _NOTHING)) for hit in own] for own in hits]


def _described(hit: Hit, said: ImageMetadata) -> Hit:
    if said == _NOTHING:
        return hit
    also = tuple(_described(other, said) for other in hit.also)
    return replace(hit, id=said.id, metadata=said.values, also=also)
