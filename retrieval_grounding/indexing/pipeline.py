"""Building an index: image files → regions → embeddings → shards and catalog."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from ..core.errors import BuildInterrupted
from ..core.interrupt import graceful_interrupt
from ..core.progress import progress_bar
from ..core.reports import BuildOptions, BuildReport, SkippedFile
from ..data.images import TRANSIENT_REASONS
from ..data.prefetch import LoadedImage, batches, read_ahead
from ..models.detector import Detector
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from .scan import Change, Scan, scan
from .shard_writer import ShardWriter

__all__ = ["add_images", "preview_images"]


def add_images(
    catalog: Catalog,
    paths: Sequence[str],
    folders: Sequence[str],
    load_models: Callable[[], tuple[Detector, Encoder]],
    options: BuildOptions,
) -> BuildReport:
    """Bring an index to the present state of `paths`, files found in `folders`.

    The caller holds the writer's lock. Models are loaded only if there is something to embed.

    Raises
    ------
    BuildInterrupted
        After Ctrl-C, when all that was embedded has been committed.
    """
    started = time.perf_counter()
    found = scan(catalog, paths, folders)
    report = _start_report(found, paths)
    if found.outdated:
        catalog.commit(removed=found.outdated)
    writer = ShardWriter(catalog, load_models, options.shard_images)
    with (
        graceful_interrupt() as stopping,
        progress_bar("Indexing", len(found.todo), "images", options.progress) as advance,
        contextlib.closing(read_ahead(found.todo, found.places, options.workers)) as files,
        contextlib.closing(
            writer.embed_ahead(batches(files, options.batch_images), found.places)
        ) as embedded,
    ):
        for batch in embedded:
            _add_batch(batch, found, writer, report)
            writer.commit_full()
            advance(len(batch))
            if stopping():
                break
        if not stopping():  # or else files that only moved would pass for deleted ones
            report.missing = sorted(found.missing)
            writer.remove(report.missing if options.prune else [])
            report.pruned = options.prune
        writer.commit()
        report.embedded, report.regions = writer.embedded, writer.regions
        report.seconds = time.perf_counter() - started - writer.loading_seconds
        if stopping():
            raise BuildInterrupted(report)
    return report


def preview_images(
    catalog: Catalog | None, paths: Sequence[str], folders: Sequence[str], options: BuildOptions
) -> BuildReport:
    """Say what :func:`add_images` would do, without decoding an image or writing anything.

    Files are read for their content hashes. Bad ones are found only when they are decoded, so new
    bad ones count as added here.
    """
    started = time.perf_counter()
    found = Scan(todo=list(paths)) if catalog is None else scan(catalog, paths, folders)
    report = _start_report(found, paths)
    with (
        progress_bar("Comparing", len(found.todo), "images", options.progress) as advance,
        contextlib.closing(read_ahead(found.todo, (), options.workers, decode=False)) as files,
    ):
        for item in files:
            if isinstance(item, SkippedFile):
                report.skipped.append(item)
            else:
                place = found.places.setdefault(item.content_hash, (-1, len(found.places)))
                _count(found.assign(item.path, place)[0], report)
            advance(1)
    report.missing, report.pruned = sorted(found.missing), options.prune
    report.seconds = time.perf_counter() - started
    return report


def _start_report(found: Scan, paths: Sequence[str]) -> BuildReport:
    return BuildReport(found=len(paths), unchanged=found.unchanged, skipped=list(found.still_bad))


def _add_batch(
    batch: Sequence[LoadedImage | SkippedFile],
    found: Scan,
    writer: ShardWriter,
    report: BuildReport,
) -> None:
    """Let every file of a batch have its regions."""
    for item in batch:
        if isinstance(item, SkippedFile):
            _skip(item, found, writer, report)
        elif (place := found.places.get(item.content_hash)) is None:
            detail = "the image alone fills the memory of the device"
            failed = SkippedFile(item.path, "out-of-memory", detail, item.size, item.mtime_ns)
            _skip(failed, found, writer, report)
        else:
            change, gone = found.assign(item.path, place)
            writer.link(item, place, touched=change == "unchanged", instead_of=gone)
            _count(change, report)


def _skip(file: SkippedFile, found: Scan, writer: ShardWriter, report: BuildReport) -> None:
    report.skipped.append(file)
    # Where nothing is known of the content, an image keeps the regions that it has.
    if not (file.reason in TRANSIENT_REASONS and file.path in found.known):
        writer.skip(file)


def _count(change: Change, report: BuildReport) -> None:
    setattr(report, change, getattr(report, change) + 1)
