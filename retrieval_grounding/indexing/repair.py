"""Repairing an index: what is intact is copied, what is damaged is embedded again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..core.progress import progress_bar
from ..core.reports import BuildOptions, SkippedFile, VerifyReport
from ..data.images import TRANSIENT_REASONS
from ..data.prefetch import batches, read_ahead
from ..models.detector import Detector
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.vectors.metadata import read_metadata, write_metadata
from .compact import rewrite_shards
from .shard_writer import ShardWriter

__all__ = ["repair_index"]


def repair_index(
    catalog: Catalog,
    report: VerifyReport,
    load_models: Callable[[], tuple[Detector, Encoder]],
    options: BuildOptions,
) -> None:
    """Put right what verifying found; `report` then tells of that.

    Every step leaves a complete index, so a crash loses nothing that was intact. The caller holds
    the writer's lock, and refreshes the vector index afterwards.
    """
    damaged = frozenset(place for fault in report.faults for place in fault.places)
    shards = sorted({fault.shard for fault in report.faults if fault.shard is not None})
    rewrite_shards(catalog, shards, options.shard_images, damaged)
    images = catalog.images_at(sorted(damaged))
    paths = [image.path for key in sorted(images) for image in images[key]]
    _embed_again(catalog, paths, report, load_models, options)
    remaining = [number for number in shards if number in catalog.shard_files()]
    rewrite_shards(catalog, remaining, options.shard_images, damaged)
    if any(fault.shard is None for fault in report.faults):
        write_metadata(catalog, replace(read_metadata(catalog), generation=-1, kind=None))


def _embed_again(
    catalog: Catalog,
    paths: Sequence[str],
    report: VerifyReport,
    load_models: Callable[[], tuple[Detector, Encoder]],
    options: BuildOptions,
) -> None:
    """Embed images whose regions are damaged; those that cannot be had any more are forgotten."""
    writer = ShardWriter(catalog, load_models, options.shard_images)
    places: dict[str, tuple[int, int]] = {}
    with (
        progress_bar("Repairing", len(paths), "images", options.progress) as advance,
        contextlib.closing(read_ahead(paths, places, options.workers)) as files,
        contextlib.closing(
            writer.embed_ahead(batches(files, options.batch_images), places)
        ) as embedded,
    ):
        for batch in embedded:
            for item in batch:
                if isinstance(item, SkippedFile):
                    if item.reason == "missing" or item.reason not in TRANSIENT_REASONS:
                        writer.skip(item)
                        report.lost.append(item.path)
                elif (place := places.get(item.content_hash)) is not None:
                    writer.link(item, place, touched=False, instead_of=None)
            writer.commit_full()
            advance(len(batch))
        writer.commit()
    report.embedded = writer.embedded
