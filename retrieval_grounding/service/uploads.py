"""Images that clients sent as examples: kept in memory for a while, under their hash."""

from __future__ import annotations

import re
from typing import NamedTuple

from PIL import Image

from ..data.image_source import hash_content
from .cache import BytesCache
from .decoding import Decoding, as_jpeg
from .errors import NotFoundError

__all__ = ["Upload", "Uploads"]

_NAME = re.compile(r"[0-9a-f]{32}")
_SHOWN_SIDE = 2048


class Upload(NamedTuple):
    """An image that a client sent: its name in queries, and its size."""

    name: str
    width: int
    height: int


class Uploads:
    """The images; those not used for the longest time are dropped when there is no room.

    Parameters
    ----------
    size : int
        Bytes of all of them.
    decoding : Decoding
        Decodes them.
    """

    def __init__(self, size: int, decoding: Decoding) -> None:
        self._kept: BytesCache[str] = BytesCache(size)
        self._decoding = decoding

    async def add(self, data: bytes) -> Upload:
        """Keep an image.

        Raises
        ------
        ImageError, RefusedError
            If it cannot be decoded, or is too large.
        """
        image = await self._decoding.run(lambda: self._decoding.decode(data))
        name = hash_content(data)
        self._kept.put(name, data)
        return Upload(name, image.width, image.height)

    @staticmethod
    def is_name(text: str) -> bool:
        """Return whether this may be the name of an image that was sent."""
        return _NAME.fullmatch(text) is not None

    async def image(self, name: str) -> Image.Image:
        """Return the pixels of an image.

        Raises
        ------
        NotFoundError
            If it has been dropped.
        """
        data = self._data(name)
        return await self._decoding.run(lambda: self._decoding.decode(data))

    async def jpeg(self, name: str) -> bytes:
        """Return an image for a browser; errors are those of :meth:`image`."""
        data = self._data(name)
        return await self._decoding.run(lambda: as_jpeg(self._decoding.decode(data), _SHOWN_SIDE))

    def _data(self, name: str) -> bytes:
        data = self._kept.get(name)
        if data is None:
            raise NotFoundError(
                f"the example {name:.40} is not here, or no longer; send the image again"
            )
        return data
