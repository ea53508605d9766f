"""The picture of a hit: its file if that is what was indexed, else the thumbnail kept of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from PIL import Image

from ..core.errors import ImageError
from ..core.hits import Hit
from ..data.images import decode_image, load_image
from ..storage.catalog import Catalog
from ..storage.shards import ShardReader

__all__ = ["find_picture"]


def find_picture(
    hit: Hit, catalog: Catalog, open_shard: Callable[[int], ShardReader]
) -> tuple[Image.Image, Hit]:
    """Return the picture of a hit, and the hit with its box in pixels of that picture.

    Raises
    ------
    ImageError
        If there is neither; with the reason why the file cannot be shown.
    """
    try:
        return load_image(hit.image, hit.content_hash), hit
    except ImageError:
        found = _thumbnail(hit, catalog, open_shard)
        if found is None:
            raise
        image, width = found
        x1, y1, x2, y2 = (side * image.width / width for side in hit.box)
        return image, replace(hit, box=(x1, y1, x2, y2))


def _thumbnail(
    hit: Hit, catalog: Catalog, open_shard: Callable[[int], ShardReader]
) -> tuple[Image.Image, int] | None:
    """Return the thumbnail of the indexed content, and the width of the whole image."""
    place = None if hit.content_hash is None else catalog.row_of_content(hit.content_hash)
    if place is None:
        return None
    reader = open_shard(place[0])
    data = reader.thumbnail(place[1])
    return (decode_image(data), int(reader.image_sizes[place[1], 0])) if data else None
