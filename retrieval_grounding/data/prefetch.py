"""Reading ahead: reading, hashing and decoding image files while the models work."""

from __future__ import annotations

import logging
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
from .decoder import Decoder
from .images import hash_content, read_image_bytes

__all__ = ["LoadedImage", "batches", "read_ahead", "size_and_time"]


_LOGGER = logging.getLogger(__name__)

_MAX_BATCH_PIXELS = 64_000_000

_FILES_PER_THREAD = 8
"""One process decodes this many files before a second one would have started."""

_SETTLED_NS = 2_000_000_000
"""A younger file may still change without its modification time changing."""


@dataclass(frozen=True)
class LoadedImage:
    """An image file after reading.

    Parameters
    ----------
    path : str
        Absolute path.
    size, mtime_ns : int
        Taken before the file was read, so that the next build notices a change meanwhile.
    content_hash : str
        BLAKE2b-128 of the file.
    image : PIL image or None
        None if the regions of this content are already known.
    """

    path: str
    size: int
    mtime_ns: int
    content_hash: str
    image: Image.Image | None


def size_and_time(path: str) -> tuple[int, int]:
    """Return size and mtime_ns of a file, or -1 and -1 if they cannot be read."""
    try:
        status = os.stat(path)  # noqa: PTH116 - much faster, and called for every file
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
        return _skip(SkippedFile(readable, "undecodable-name", "the file name is not UTF-8"))
    except ImageError as error:
        return _skip(SkippedFile(path, error.reason, error.detail, size, mtime_ns))
    if time.time_ns() - mtime_ns < _SETTLED_NS:
        mtime_ns = -1  # makes the next build compare the content
    return LoadedImage(path, size, mtime_ns, digest, image)


def _skip(file: SkippedFile) -> SkippedFile:
    _LOGGER.debug("skipped %s: %s (%s)", file.path, file.reason, file.detail)
    return file


def read_ahead(
    paths: Sequence[str], known: Container[str], workers: int, *, decode: bool = True
) -> Generator[LoadedImage | SkippedFile, None, None]:
    """Read files, at most 2 × `workers` ahead of the caller; yield them in order.

    Threads read and hash, and each has a process that decodes for it, so that a decoder that
    crashes, hangs or runs out of memory costs one image. The processes start when they are needed,
    and have ended when the iterator is exhausted or closed.

    Parameters
    ----------
    paths : sequence of str
        Absolute paths.
    known : container of str
        Content hashes whose regions are known; such files are not decoded. It may grow meanwhile.
    workers : int
        Largest number of threads, and of processes.
    decode : bool
        False only hashes the files.

    Raises
    ------
    GroundingError
        If too many files are open, or a process cannot be started.
    """
    threads = min(workers, 1 + len(paths) // _FILES_PER_THREAD)
    thread = threading.local()
    decoders: list[Decoder] = []

    def start_thread() -> None:
        thread.decoder = None
        if decode:
            thread.decoder = Decoder()
            decoders.append(thread.decoder)

    def load(path: str) -> LoadedImage | SkippedFile:
        return _load(path, known, thread.decoder)

    pool = ThreadPoolExecutor(threads, "read", start_thread)
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
    """Group items by `count`, or fewer if they have many pixels."""
    batch: list[LoadedImage | SkippedFile] = []
    pixels = 0
    for item in items:
        batch.append(item)
        if isinstance(item, LoadedImage) and item.image is not None:
            pixels += item.image.width * item.image.height
        if len(batch) >= count or pixels >= _MAX_BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
