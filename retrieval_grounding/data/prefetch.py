"""Reading ahead: image files are read, hashed and decoded while the models work."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from ..core.errors import ImageError
from ..core.reports import SkippedFile
from .decode_pool import Decoder
from .images import hash_content, read_image_bytes

__all__ = ["LoadedImage", "batches", "read_ahead", "size_and_time"]


_BATCH_PIXELS = 64_000_000

_FILES_A_DECODER = 8
"""A few files are decoded before a second process has started."""

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


def size_and_time(path: str) -> tuple[int, int]:
    """Return size and mtime_ns of a file, -1 and -1 if it cannot be asked."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called for every file of a collection
    except OSError:
        return (-1, -1)
    return (status.st_size, status.st_mtime_ns)


def _load(path: str, known: Container[str], decoder: Decoder | None) -> LoadedImage | SkippedFile:
    """Read one file; decode it unless its content hash is in `known`."""
    size, mtime_ns = size_and_time(path)
    try:
        path.encode("utf-8")
        data = read_image_bytes(path)
        digest = hash_content(data)
        image = None if decoder is None or digest in known else decoder.decode(data)
    except UnicodeEncodeError:
        readable = os.fsencode(path).decode("utf-8", "backslashreplace")
        return SkippedFile(readable, "undecodable-name", "the file name is not UTF-8")
    except ImageError as error:
        return SkippedFile(path, error.reason, error.detail, size, mtime_ns)
    if time.time_ns() - mtime_ns < _SETTLED_NS:
        mtime_ns = -1  # compared by content the next time
    return LoadedImage(path, size, mtime_ns, digest, image)


def read_ahead(
    paths: Sequence[str], known: Container[str], workers: int, *, decode: bool = True
) -> Generator[LoadedImage | SkippedFile, None, None]:
    """Read files, at most 2 × `workers` ahead of the caller; yield them in order.

    Threads read and hash. Each hands what it reads to a process of its own to be decoded, so that
    a decoder that crashes, fills the memory or hangs costs one image. The processes are started
    when they are needed, and are gone when the iterator is exhausted or closed.

    Parameters
    ----------
    paths : sequence of str
        Absolute.
    known : container of str
        Content hashes of which the regions are known: these files are not decoded. It may grow
        meanwhile.
    workers : int
        Threads, and at most so many processes.
    decode : bool
        Without it files are only hashed.

    Raises
    ------
    GroundingError
        If too many files are open, or no process can be started.
    """
    threads = min(workers, 1 + len(paths) // _FILES_A_DECODER)
    own = threading.local()
    decoders: list[Decoder] = []

    def begin() -> None:
        own.decoder = Decoder() if decode else None
        if own.decoder is not None:
            decoders.append(own.decoder)

    def load(path: str) -> LoadedImage | SkippedFile:
        return _load(path, known, own.decoder)

    pool = ThreadPoolExecutor(threads, "read", begin)
    pending: deque[Future[LoadedImage | SkippedFile]] = deque()
    try:
        for path in paths:
            pending.append(pool.submit(load, path))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for decoder in decoders:
            decoder.stop()
        pool.shutdown()
        for decoder in decoders:
            decoder.close()


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
