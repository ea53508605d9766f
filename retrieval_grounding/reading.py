"""Reading ahead: threads read, hash and decode image files while the models work."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from .errors import ImageError
from .images import decode_image, read_image_bytes
from .storage.rows import SkippedFile

__all__ = ["LoadedImage", "batches", "load", "read_ahead", "size_and_time"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_BATCH_PIXELS = 64_000_000

_SETTLED_NS = 2_000_000_000
"""A file as young as this may yet change within one tick of its file system's clock."""


@dataclass(frozen=True)
class LoadedImage:
    """An image file that was read.

    Parameters
    ----------
    path : str
        Absolute.
    size, mtime_ns : int
        Of the file, taken before it was read: a change meanwhile is noticed the next time.
    content_hash : str
        BLAKE2b-128 of its bytes.
    image : PIL image or None
        None if the regions of that content are known already.
    """

    path: str
    size: int
    mtime_ns: int
    content_hash: str
    image: Image.Image | None


def load(path: str, known: Container[str], decode: bool = True) -> LoadedImage | SkippedFile:
    """Read one file; decode it unless its content hash is in `known`."""
    size, mtime_ns = size_and_time(path)
    try:
        path.encode("utf-8")
        data = read_image_bytes(path)
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        image = decode_image(data) if decode and digest not in known else None
    except UnicodeEncodeError:
        readable = os.fsencode(path).decode("utf-8", "backslashreplace")
        return SkippedFile(readable, "undecodable-name", "the file name is not UTF-8")
    except ImageError as error:
        return SkippedFile(path, error.reason, error.detail, size, mtime_ns)
    if time.time_ns() - mtime_ns < _SETTLED_NS:
        mtime_ns = -1  # compared by content the next time
    return LoadedImage(path, size, mtime_ns, digest, image)


def size_and_time(path: str) -> tuple[int, int]:
    """Return size and mtime_ns of a file, -1 and -1 if it cannot be asked."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called for every file of a collection
    except OSError:
        return (-1, -1)
    return (status.st_size, status.st_mtime_ns)


def read_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` in order, computed by threads at most 2 × `workers` items ahead."""
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def batches(
    items: Iterable[LoadedImage | SkippedFile], count: int
) -> Iterator[list[LoadedImage | SkippedFile]]:
    """Group items by `count`, or fewer where their pixels would fill the memory."""
    batch: list[LoadedImage | SkippedFile] = []
    pixels = 0
    for item in items:
        batch.append(item)
        if isinstance(item, LoadedImage) and item.image is not None:
            pixels += item.image.width * item.image.height
        if len(batch) >= count or pixels >= _BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
