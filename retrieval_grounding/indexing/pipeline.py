"""Building an index: image files → regions → embeddings → shards and catalog."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Sequence

from ..core.interrupt import graceful_interrupt
from ..core.progress import progress_bar
from ..core.reports import BuildInterrupted, BuildOptions, BuildReport, FileNote, SkippedFile
from ..data.images import TRANSIENT_REASONS
from ..data.prefetch import LoadedImage, read_ahead, read_batches
from ..data.sources import Collection
from ..storage.catalog import Catalog
from .model_spec import LoadModels
from .scan import Change, Scan, remember_mounts, scan
from .shard_writer import ShardWriter

__all__ = ["add_images", "preview_images"]

_log = logging.getLogger(__name__)


def add_images(
    catalog: Catalog,
    collection: Collection,
    load_models: LoadModels,
    options: BuildOptions,
) -> BuildReport:
    """Bring an index up to date with a collection.

    The caller holds the writer's lock. Models are loaded only if there is something to embed.

    Raises
    ------
    BuildInterrupted
        After Ctrl-C, once everything that was embedded has been committed.
    """
    started = time.perf_counter()
    found = scan(catalog, collection, options)
    report = _start_report(found, collection)
    changes: Counter[Change] = Counter()
    catalog.commit(removed=found.outdated, skipped=found.unusable)
    remember_mounts(catalog, collection, options)
    writer = ShardWriter(catalog, load_models, options)
    with (
        graceful_interrupt() as stopping,
        progress_bar("Indexing", len(found.todo), "images", options.progress) as advance,
        contextlib.closing(
            read_batches(
                found.todo,
                found.to_keep,
                options.workers,
                count=options.batch_images,
                memory=options.memory,
                stopping=stopping,
            )
        ) as groups,
        contextlib.closing(writer.embed_ahead(groups, found.places)) as embedded,
    ):
        for batch in embedded:
            _add_batch(batch, found, writer, report, changes)
            writer.commit_full()
            advance(len(batch))
            if stopping():
                break
        if not stopping():  # otherwise files that only moved would count as deleted
            report.missing, report.unreachable = sorted(found.missing), sorted(found.unreachable)
            writer.remove(report.missing if options.prune else [])
            report.pruned = options.prune
        writer.commit()
        report.embedded, report.regions = writer.embedded, writer.regions
        _set_changes(report, changes)
        report.seconds = time.perf_counter() - started - writer.loading_seconds
        if stopping():
            raise BuildInterrupted(report)
    return report


def preview_images(
    catalog: Catalog | None, collection: Collection, options: BuildOptions
) -> BuildReport:
    """Return what :func:`add_images` would do, without decoding images or writing anything.

    Files are read for their content hashes. Damage is found only by decoding, so new damaged files
    count as added here.
    """
    started = time.perf_counter()
    found = scan(catalog, collection, options)
    report = _start_report(found, collection)
    changes: Counter[Change] = Counter()
    with (
        progress_bar("Comparing", len(found.todo), "images", options.progress) as advance,
        contextlib.closing(read_ahead(found.todo, (), options.workers, decode=False)) as files,
    ):
        for item in files:
            if isinstance(item, SkippedFile):
                report.skipped.append(item)
            else:
                place = found.places.setdefault(item.content_hash, (-1, len(found.places)))
                changes[found.assign(item.path, place)[0]] += 1
            advance(1)
    report.missing, report.unreachable = sorted(found.missing), sorted(found.unreachable)
    report.pruned = options.prune
    _set_changes(report, changes)
    report.seconds = time.perf_counter() - started
    return report


def _start_report(found: Scan, collection: Collection) -> BuildReport:
    return BuildReport(
        found=found.found,
        unchanged=found.unchanged,
        skipped=[*found.still_bad, *found.unusable],
        left_out=[*collection.left_out, *found.removed],
        other_files=collection.other_files,
    )


def _add_batch(
    batch: Sequence[LoadedImage | SkippedFile],
    found: Scan,
    writer: ShardWriter,
    report: BuildReport,
    changes: Counter[Change],
) -> None:
    """Link each file of a batch to its regions, or record why it has none."""
    for item in batch:
        if isinstance(item, SkippedFile):
            _skip(item, found, writer, report)
        elif (place := found.places.get(item.content_hash)) is None:
            detail = "the image by itself fills the memory of the device"
            failed = SkippedFile(item.path, "out-of-memory", detail, item.size, item.mtime_ns)
            _skip(failed, found, writer, report)
        else:
            report.notes += [FileNote(item.path, *note) for note in item.notes]
            writer.describe(item)
            copies = found.copies(item.content_hash, place)
            change, gone = found.assign(item.path, place)
            for path, file in copies:
                if path != gone:
                    copy = LoadedImage(path, file.size, file.mtime_ns, item.content_hash, None)
                    writer.link(copy, place, touched=False, instead_of=None)
            changes[change] += 1
            same = change == "unchanged"
            if not (same and found.known[item.path][:2] == (item.size, item.mtime_ns)):
                writer.link(item, place, touched=same, instead_of=gone)


def _skip(file: SkippedFile, found: Scan, writer: ShardWriter, report: BuildReport) -> None:
    report.skipped.append(file)
    _log.debug("skipped %s: %s (%s)", file.path, file.reason, file.detail)
    # A transient failure says nothing about the content, so a known image keeps its regions.
    if not (file.reason in TRANSIENT_REASONS and file.path in found.known):
        writer.skip(file)


def _set_changes(report: BuildReport, changes: Counter[Change]) -> None:
    report.unchanged += changes["unchanged"]
    report.added = changes["added"]
    report.updated = changes["updated"]
    report.moved = changes["moved"]
    report.duplicates = changes["duplicates"]
