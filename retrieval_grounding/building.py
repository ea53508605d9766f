"""Building an index: image files → regions → embeddings → shards and catalog → vector index."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from PIL import Image

from .colours import region_colours
from .detectors import Detector
from .encoders import Encoder, embed_labels
from .errors import ImageError, StoreError
from .images import decode_image, read_image_bytes
from .progress import progress_bar
from .storage.catalog import Catalog, SkippedFile, StoredImage
from .storage.files import TEMPORARY_SUFFIX
from .storage.shards import ImageRecord, ShardReader, file_checksum, write_shard
from .vectors.flat import FlatVectorIndex

__all__ = ["BuildOptions", "BuildReport", "add_images", "refresh_vectors", "sweep_leftovers"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_BATCH_PIXELS = 64_000_000
VECTORS_FILE = "vectors.faiss"


@dataclass(frozen=True)
class BuildOptions:
    """How to build; none of it changes what is stored.

    Parameters
    ----------
    batch_images : int
        Images that are detected and encoded together; fewer if they are large.
    shard_images : int
        Images in a shard. A crash loses at most the shard in flight.
    workers : int
        Threads that read and decode ahead of the models.
    progress : bool or None
        Show a bar; None shows it on a terminal.
    """

    batch_images: int = 16
    shard_images: int = 512
    workers: int = field(default_factory=lambda: min(8, os.cpu_count() or 1))
    progress: bool | None = None


@dataclass
class BuildReport:
    """What a build did.

    Parameters
    ----------
    found, unchanged, added, updated : int
        Images that the sources name; of these, already in the index as they are; new; changed.
    regions : int
        Regions embedded, the whole images included.
    skipped : list of SkippedFile
        Files that could not be indexed, and why.
    seconds : float
        Duration, loading of models excluded.
    """

    found: int = 0
    unchanged: int = 0
    added: int = 0
    updated: int = 0
    regions: int = 0
    skipped: list[SkippedFile] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Images embedded per second."""
        return (self.added + self.updated) / self.seconds if self.seconds else 0.0

    @property
    def skipped_reasons(self) -> dict[str, int]:
        """Number of skipped files by reason, the most frequent first."""
        return dict(Counter(file.reason for file in self.skipped).most_common())


@dataclass(frozen=True)
class _LoadedImage:
    path: str
    size: int
    mtime_ns: int
    content_hash: str
    image: Image.Image


def add_images(
    catalog: Catalog,
    paths: Sequence[str],
    load_models: Callable[[], tuple[Detector, Encoder]],
    options: BuildOptions,
) -> BuildReport:
    """Index those of `paths` that are new or have changed.

    The caller holds the writer's lock. Models are loaded only if there is something to embed.
    """
    report = BuildReport(found=len(paths))
    indexed = catalog.indexed_files()
    failed = {file.path: file for file in catalog.skipped()}
    todo = []
    for path in paths:
        now = _size_and_time(path)
        if indexed.get(path) == now:
            report.unchanged += 1
        elif path in failed and (failed[path].size, failed[path].mtime_ns) == now:
            report.skipped.append(failed[path])  # still bad, and still worth telling
        else:
            todo.append(path)
    if todo:
        detector, encoder = load_models()
        started = time.perf_counter()
        writer = _ShardWriter(catalog, detector, encoder, options.shard_images)
        with progress_bar("Indexing", len(todo), "images", options.progress) as advance:
            loaded = read_ahead(_load, todo, options.workers)
            for batch in _batches(loaded, options.batch_images):
                images = [item for item in batch if isinstance(item, _LoadedImage)]
                skipped = [item for item in batch if isinstance(item, SkippedFile)]
                if images:
                    report.regions += writer.add(images)
                if skipped:
                    catalog.add_skipped(skipped)
                    report.skipped += skipped
                report.updated += sum(image.path in indexed for image in images)
                report.added += sum(image.path not in indexed for image in images)
                advance(len(batch))
        writer.commit()
        report.seconds = time.perf_counter() - started
    return report


def refresh_vectors(catalog: Catalog, save: bool = True) -> FlatVectorIndex:
    """Return the vector index, rebuilt from the shards if it is missing, damaged or stale."""
    path = catalog.directory / VECTORS_FILE
    generation = catalog.generation
    if path.is_file() and catalog.setting("vectors_generation") == generation:
        try:
            return FlatVectorIndex.load(path)
        except StoreError:
            pass  # it is only a copy; the shards below have everything
    vectors = FlatVectorIndex.build(
        int(catalog.setting("dimension")),
        (
            (reader.embeddings, reader.ids)
            for number, file in catalog.shard_files().items()
            for reader in [ShardReader(catalog.directory / "shards" / file, number)]
        ),
    )
    if save:
        vectors.save(path)
        catalog.set_setting("vectors_generation", generation)
    return vectors


def sweep_leftovers(catalog: Catalog) -> None:
    """Delete what killed builds left: unfinished files, and shards that were never committed.

    The caller holds the writer's lock.
    """
    committed = set(catalog.shard_files().values())
    for path in (catalog.directory / "shards").glob("*.h5"):
        if path.name not in committed:
            path.unlink()
    for folder in (catalog.directory, catalog.directory / "shards"):
        for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
            path.unlink()


def read_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
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


class _ShardWriter:
    """Detects and encodes batches, and commits a shard whenever enough images have come."""

    def __init__(
        self, catalog: Catalog, detector: Detector, encoder: Encoder, shard_images: int
    ) -> None:
        self._catalog = catalog
        self._detector = detector
        self._encoder = encoder
        self._shard_images = shard_images
        self._records: list[ImageRecord] = []
        self._images: list[StoredImage] = []

    def add(self, loaded: Sequence[_LoadedImage]) -> int:
        """Embed the images of a batch; return the number of their regions."""
        images = [item.image for item in loaded]
        regions = self._detector.detect(images)
        embeddings = self._encoder.encode_regions(images, regions)
        start = 0
        for item, found in zip(loaded, regions, strict=True):
            width, height = item.image.size
            rows = embeddings[start : start + len(found)]
            start += len(found)
            colours = region_colours(item.image, found.boxes)
            self._records.append(ImageRecord(width, height, found, rows, colours))
            self._images.append(
                StoredImage(item.path, item.size, item.mtime_ns, item.content_hash, width, height)
            )
        if len(self._records) >= self._shard_images:
            self.commit()
        return start

    def commit(self) -> None:
        """Write the shard, then the catalog: a shard exists once its row is committed."""
        if not self._records:
            return
        number = self._catalog.next_shard()
        path = self._catalog.directory / "shards" / f"{number:06d}.h5"
        try:
            write_shard(
                path,
                self._records,
                embed_labels=partial(embed_labels, self._encoder),
                detector=self._detector.fingerprint,
                encoder=str(self._encoder.fingerprint),
            )
        except OSError as error:
            raise StoreError(
                f"the shard {path.name} cannot be written ({error.strerror or error}); "
                "what was committed before is safe, build again to go on"
            ) from error
        regions = sum(len(record.regions) for record in self._records)
        self._catalog.add_shard(number, path.name, regions, file_checksum(path), self._images)
        self._records, self._images = [], []


def _load(path: str) -> _LoadedImage | SkippedFile:
    size, mtime_ns = _size_and_time(path)
    try:
        path.encode("utf-8")
        data = read_image_bytes(path)
        image = decode_image(data)
    except UnicodeEncodeError:
        readable = os.fsencode(path).decode("utf-8", "backslashreplace")
        return SkippedFile(readable, "undecodable-name", "the file name is not UTF-8")
    except ImageError as error:
        return SkippedFile(path, error.reason, error.detail, size, mtime_ns)
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return _LoadedImage(path, size, mtime_ns, digest, image)


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except OSError:
        return (-1, -1)
    return (status.st_size, status.st_mtime_ns)


def _batches(
    items: Iterable[_LoadedImage | SkippedFile], count: int
) -> Iterator[list[_LoadedImage | SkippedFile]]:
    """Group items by `count`, or fewer where their pixels would fill the memory."""
    batch: list[_LoadedImage | SkippedFile] = []
    pixels = 0
    for item in items:
        batch.append(item)
        if isinstance(item, _LoadedImage):
            pixels += item.image.width * item.image.height
        if len(batch) >= count or pixels >= _BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
