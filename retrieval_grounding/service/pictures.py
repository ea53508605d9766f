"""Pictures of an index's images for a browser, by content hash; no path is taken from a request."""

from __future__ import annotations

import re

from PIL import Image

from ..core.addresses import is_url
from ..core.errors import ImageError
from ..core.types import Box, RowKey
from ..data.image_source import hash_content
from ..data.reading import read_address
from ..data.thumbnails import THUMBNAIL_SIDE
from .cache import BytesCache
from .decoding import Decoding, as_jpeg
from .errors import NotFoundError, RefusedError
from .served import ServedIndex

__all__ = ["MAX_SIDE", "Pictures"]

MAX_SIDE = 4096
_CACHE_BYTES = 64 << 20
_HASH = re.compile(r"[0-9a-f]{32}")


class Pictures:
    """Makes pictures, and keeps some.

    A picture is the image itself, if its file still has the content that was indexed, else the
    thumbnail that the index keeps of it. Servers are not asked: the service connects to nobody.

    Parameters
    ----------
    decoding : Decoding
        Decodes files.
    """

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding
        self._made: BytesCache[tuple[object, ...]] = BytesCache(_CACHE_BYTES)

    async def image(self, served: ServedIndex, content_hash: str, side: int) -> bytes:
        """Return a JPEG of an image with at most `side` pixels on a side.

        Raises
        ------
        NotFoundError
            If the index has no such image, or neither its file nor a thumbnail can be shown.
        """
        return await self._decoding.run(lambda: self._image(served, content_hash, side))

    async def thumbnail(self, served: ServedIndex, content_hash: str) -> bytes:
        """Return a JPEG with at most 640 pixels on a side; errors are those of :meth:`image`."""
        return await self._decoding.run(
            lambda: self._image(served, content_hash, THUMBNAIL_SIDE, small=True)
        )

    async def crop(self, served: ServedIndex, content_hash: str, region: int, side: int) -> bytes:
        """Return a JPEG of a region, by its number in the image or its id in the index.

        Raises
        ------
        NotFoundError
            Also if the image has no such region.
        """
        return await self._decoding.run(lambda: self._crop(served, content_hash, region, side))

    def _image(
        self, served: ServedIndex, content_hash: str, side: int, small: bool = False
    ) -> bytes:
        place = _place(served, content_hash)
        key = (served.name, content_hash, side)
        made = self._made.get(key)
        if made is None:
            made = as_jpeg(self._pixels(served, content_hash, place, small)[0], side)
            self._made.put(key, made)
        return made

    def _crop(self, served: ServedIndex, content_hash: str, region: int, side: int) -> bytes:
        place = _place(served, content_hash)
        box, width = _box(served, place, region)
        key = (served.name, content_hash, box, side)
        made = self._made.get(key)
        if made is None:
            image, _ = self._pixels(served, content_hash, place, small=False)
            x1, y1, x2, y2 = (value * image.width / width for value in box)
            corners = (int(x1), int(y1), max(int(x1) + 1, round(x2)), max(int(y1) + 1, round(y2)))
            made = as_jpeg(image.crop(corners), side)
            self._made.put(key, made)
        return made

    def _pixels(
        self, served: ServedIndex, content_hash: str, place: RowKey, small: bool
    ) -> tuple[Image.Image, int]:
        """Return the pixels of an image, or those of its thumbnail."""
        failure: ImageError | RefusedError = ImageError("missing", "it has no file")
        reader = served.retriever.open_shard(place[0])
        kept = reader.thumbnail(place[1])
        width = int(reader.image_sizes[place[1], 0])
        if small and kept:
            return self._decoding.decode(kept), width
        for image in served.catalog.images_at([place]).get(place, []):
            if is_url(image.path):
                continue
            try:
                data = read_address(image.path)
                if hash_content(data) != content_hash:
                    raise ImageError("changed", "the file is no longer what was indexed")
                return self._decoding.decode(data), width
            except (ImageError, RefusedError) as error:
                failure = error
        if kept:
            return self._decoding.decode(kept), width
        reason = failure.reason if isinstance(failure, ImageError) else str(failure)
        raise NotFoundError(f"the image cannot be shown ({reason}), and no thumbnail was kept")


def _place(served: ServedIndex, content_hash: str) -> RowKey:
    """Return the row of an image that is in use."""
    found = served.catalog.content_rows(content_hash) if _HASH.fullmatch(content_hash) else []
    if not found:
        raise NotFoundError(f"{served.name} has no image with the hash {content_hash!r:.50}")
    return found[0][1]


def _box(served: ServedIndex, place: RowKey, region: int) -> tuple[Box, int]:
    """Return the box of a region, and the width of its image."""
    store = served.retriever.store
    regions = store.gather([place])
    first = store.region_id(place, 0)
    number = region - first if region >= first else region
    if not 0 <= number < len(regions):
        raise NotFoundError(f"the image has the regions 0 to {len(regions) - 1}, not {region}")
    x1, y1, x2, y2 = regions.boxes[number].tolist()
    return (x1, y1, x2, y2), int(regions.boxes[0, 2])
