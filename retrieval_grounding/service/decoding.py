"""Decoding in separate processes, a few at a time, and encoding for a browser."""

from __future__ import annotations

import asyncio
import io
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from PIL import Image

from ..data.decoder import Decoder
from ..data.memory import RGB_BYTES
from .errors import RefusedError

__all__ = ["Decoding", "as_jpeg"]

Result = TypeVar("Result")

_AT_ONCE = 2
_SECONDS = 20.0
_QUALITY = 85


class Decoding:
    """A few processes that decode images, whoever sent them; a crash or a hang costs one image.

    Parameters
    ----------
    max_pixels : int
        Larger images are refused before they are decoded.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="picture")
        self._free: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        self._all = [Decoder(_SECONDS) for _ in range(_AT_ONCE)]
        for decoder in self._all:
            self._free.put(decoder)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run what decodes in threads kept for it, so that it never delays anything else."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def decode(self, data: bytes) -> Image.Image:
        """Return the pixels of an image file, upright, mode ``RGB``.

        Raises
        ------
        ImageError
            If it cannot be decoded.
        RefusedError
            If it is too large.
        """
        decoder = self._free.get()
        try:
            return decoder.decode_with_notes(data, self._check).image
        finally:
            self._free.put(decoder)

    def close(self) -> None:
        """End the processes."""
        self._threads.shutdown()
        for decoder in self._all:
            decoder.close()

    def _check(self, need: int, kept: int) -> None:
        if kept > RGB_BYTES * self._max_pixels:
            message = f"an image has at most {self._max_pixels:,} pixels"
            raise RefusedError(413, "too-many-pixels", message, self._max_pixels)


def as_jpeg(image: Image.Image, side: int) -> bytes:
    """Return a JPEG with at most `side` pixels on the longest side, and without metadata.

    >>> data = as_jpeg(Image.new("RGB", (300, 100), "red"), 30)
    >>> Image.open(io.BytesIO(data)).size
    (30, 10)
    """
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
