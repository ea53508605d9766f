"""Reading ahead: reading, hashing and decoding image files while the models work."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Container, Generator, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from ..core.errors import ImageError
from ..core.photo import Photo
from ..core.reports import SkippedFile
from .budget import MemoryBudget, OverBudgetError
from .damage import ImageNote
from .decoder import Decoder
from .image_source import hash_content
from .images import DecodedImage
from .memory import RGB_BYTES
from .reading import read_address, size_and_time

__all__ = ["LoadedImage", "read_ahead", "read_batches", "settled"]


_LOGGER = logging.getLogger(__name__)

_MAX_BATCH_PIXELS = 64_000_000

_FILES_PER_THREAD = 8
"""One process decodes this many files before a second one would have started."""

_LARGE_FILE_BYTES = 1 << 25

_POLL_SECONDS = 0.02

_MAX_STALLS = 16
"""After this many empty groups, everything that can be released has been."""

_SETTLED_NS = 2_000_000_000
"""A younger file may still change without its modification time changing."""


@dataclass(frozen=True)
class LoadedImage:
    """An image file after reading.

    Parameters
    ----------
    path : str
        Its address.
    size, mtime_ns : int
        Taken before the file was read, so that the next build notices a change meanwhile.
    content_hash : str
        BLAKE2b-128 of the file.
    image : PIL image or None
        None if the regions of this content are already known.
    notes : tuple of ImageNote
        What was guessed or repaired when it was decoded.
    photo : Photo or None
        What the photograph says about itself; None if it was not decoded.
    """

    path: str
    size: int
    mtime_ns: int
    content_hash: str
    image: Image.Image | None
    notes: tuple[ImageNote, ...] = ()
    photo: Photo | None = None


class _Reader:
    """Reads files in threads, each with a process that decodes for it.

    Parameters
    ----------
    known : container of str
        Content hashes whose regions are known; such files are not decoded.
    decode : bool
        False only hashes the files.
    budget : MemoryBudget
        For the pixels.
    """

    def __init__(self, known: Container[str], decode: bool, budget: MemoryBudget) -> None:
        self._known = known
        self._decode = decode
        self._budget = budget
        self._thread = threading.local()
        self._decoders: list[Decoder] = []
        self._stopping = threading.Event()

    def start_thread(self) -> None:
        """Give the current thread a decoder."""
        if self._decode:
            self._thread.decoder = Decoder()
            self._decoders.append(self._thread.decoder)

    def stop(self) -> None:
        """Let everything in progress fail."""
        self._stopping.set()
        self._budget.close()
        for decoder in self._decoders:
            decoder.stop()

    def close(self) -> None:
        """End the processes; no file may be in progress."""
        for decoder in self._decoders:
            decoder.close()

    def load(self, turn: int, path: str) -> LoadedImage | SkippedFile:
        """Read one file; decode it unless its content hash is known."""
        try:
            return self._load(turn, path)
        finally:
            self._budget.skip(turn)

    def _load(self, turn: int, path: str) -> LoadedImage | SkippedFile:
        size, mtime_ns = size_and_time(path)
        try:
            path.encode("utf-8")
            if size > _LARGE_FILE_BYTES:  # only one such file is read at a time
                self._budget.wait_for_turn(turn)
            data = read_address(path, self._stopping.is_set)
            digest = hash_content(data)
            if not self._decode or digest in self._known:
                return LoadedImage(path, size, settled(mtime_ns), digest, None)
            decoded = self._decode_file(turn, data)
            return LoadedImage(path, size, settled(mtime_ns), digest, *decoded)
        except UnicodeEncodeError:
            readable = os.fsencode(path).decode("utf-8", "backslashreplace")
            return _skip(SkippedFile(readable, "undecodable-name", "the file name is not UTF-8"))
        except OverBudgetError as error:  # without size and time, so the next build tries again
            return _skip(SkippedFile(path, error.reason, error.detail))
        except ImageError as error:
            return _skip(SkippedFile(path, error.reason, error.detail, size, mtime_ns))

    def _decode_file(self, turn: int, data: bytes) -> DecodedImage:
        taken = 0

        def take(need: int, kept: int) -> None:
            nonlocal taken
            self._budget.take(turn, need)
            taken = need

        try:
            decoder: Decoder = self._thread.decoder
            decoded = decoder.decode_with_notes(data, take)
            kept = RGB_BYTES * decoded.image.width * decoded.image.height
            weakref.finalize(decoded.image, self._budget.give_back, kept)
            taken -= kept
            return decoded
        finally:
            self._budget.give_back(taken)


def settled(mtime_ns: int) -> int:
    """Return the time of a file, or -1 if it is young: then the next build compares the content."""
    return -1 if time.time_ns() - mtime_ns < _SETTLED_NS else mtime_ns


def _is_done(future: Future[LoadedImage | SkippedFile]) -> bool:
    """Wait for a short time; return whether the result, or an error, is there."""
    try:
        future.exception(_POLL_SECONDS)
    except futures.TimeoutError:
        return False
    return True


def _skip(file: SkippedFile) -> SkippedFile:
    _LOGGER.debug("skipped %s: %s (%s)", file.path, file.reason, file.detail)
    return file


def read_ahead(
    paths: Sequence[str],
    known: Container[str],
    workers: int,
    *,
    decode: bool = True,
    memory: int | None = None,
) -> Generator[LoadedImage | SkippedFile, None, None]:
    """Read files, at most 2 × `workers` ahead of the caller; yield them in order.

    Threads read and hash, and each has a process that decodes for it, so that a decoder that
    crashes, hangs or runs out of memory costs one image. The processes start when they are needed,
    and have ended when the iterator is exhausted or closed.

    Parameters
    ----------
    paths : sequence of str
        Addresses of images.
    known : container of str
        Content hashes whose regions are known; such files are not decoded. It may grow meanwhile.
    workers : int
        Largest number of threads, and of processes.
    decode : bool
        False only hashes the files.
    memory : int, optional
        Bytes that decoding and all images that the caller has not released may take; by default, a
        share of what is free.

    Raises
    ------
    GroundingError
        If too many files are open, or a process cannot be started.
    """
    items = _read_ahead(paths, known, workers, decode, memory, lambda: False)
    with contextlib.closing(items):
        for item in items:
            if item is not None:
                yield item


def read_batches(
    paths: Sequence[str],
    known: Container[str],
    workers: int,
    *,
    count: int,
    memory: int | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Generator[list[LoadedImage | SkippedFile], None, None]:
    """Read files as :func:`read_ahead` does; yield them in groups.

    Parameters
    ----------
    paths, known, workers, memory
        As for :func:`read_ahead`.
    count : int
        Files per group. It has fewer if the images have many pixels, or fill the memory. If images
        that were yielded before fill it, groups are empty until they are released.
    stopping : callable
        Ends the iteration once it returns True, even if a file is being decoded.
    """
    batch: list[LoadedImage | SkippedFile] = []
    pixels = 0
    items = _read_ahead(paths, known, workers, True, memory, stopping)
    with contextlib.closing(items):
        for item in items:
            if item is not None:
                batch.append(item)
            if isinstance(item, LoadedImage) and item.image is not None:
                pixels += item.image.width * item.image.height
            if item is None or len(batch) >= count or pixels >= _MAX_BATCH_PIXELS:
                del item  # or the last image would stay in memory
                yield batch
                batch, pixels = [], 0
    if batch:
        yield batch


def _read_ahead(
    paths: Sequence[str],
    known: Container[str],
    workers: int,
    decode: bool,
    memory: int | None,
    stopping: Callable[[], bool],
) -> Generator[LoadedImage | SkippedFile | None, None, None]:
    """Read files; yield None while the next one waits for memory that the caller has to release."""
    threads = min(workers, 1 + len(paths) // _FILES_PER_THREAD)
    budget = MemoryBudget(memory)
    reader = _Reader(known, decode, budget)
    pool = ThreadPoolExecutor(threads, "read", reader.start_thread)
    pending: deque[Future[LoadedImage | SkippedFile]] = deque()
    turns = enumerate(paths)
    next_turn = 0
    try:
        while not stopping():
            for turn, path in itertools.islice(turns, 2 * threads + 1 - len(pending)):
                pending.append(pool.submit(reader.load, turn, path))
            if not pending:
                return
            stalls = 0
            while not _is_done(pending[0]):
                if stopping():
                    return
                if budget.waits(next_turn):
                    stalls += 1
                    if stalls > _MAX_STALLS:
                        budget.exceed()
                    yield None
            next_turn += 1
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        reader.stop()
        pool.shutdown()
        reader.close()
