"""Repairing an index: intact rows are copied, damaged ones are embedded again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..core.progress import progress_bar
from ..core.reports import BuildOptions, SkippedFile, VerifyReport
from ..data.images import TRANSIENT_REASONS
from ..data.prefetch import read_batches
from ..models.detector import Detector
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.vectors.metadata import VECTORS_FILES, read_metadata, write_metadata
from .compact import rewrite_shards
from .model_spec import LoadModels, Models, checked_loader, recorded_spec
from .shard_writer import ShardWriter
from .verify import verify_index
from .verify_files import repair_files
from .write_session import write_session

__all__ = ["repair_index"]


def repair_index(
    directory: Path,
    detector: str | Detector | None,
    encoder: str | Encoder | None,
    device: str,
    options: BuildOptions,
    timeout: float = 0.0,
) -> VerifyReport:
    """Repair what verifying finds, and verify again.

    Every step leaves a complete index, so a crash loses nothing that was intact.

    Parameters
    ----------
    directory : Path
        Folder of the index.
    detector, encoder : optional
        The models that built the index, by name or as objects; what it names itself if left out.
    device : str
        Where models run.
    options : BuildOptions
        For embedding, and whether to show progress.
    timeout : float
        Seconds to wait for a different writer.
    """

    def load_models() -> Models:
        with contextlib.closing(Catalog(directory)) as catalog:
            spec = recorded_spec(catalog, detector=detector, encoder=encoder)
            return checked_loader(catalog, spec, device)()

    with write_session(directory, timeout, lambda: load_models().encoder) as catalog:
        report = verify_index(catalog, options.progress)
        _repair(catalog, report, load_models, options)
    with contextlib.closing(Catalog(directory)) as catalog:
        left = verify_index(catalog, options.progress)
    report.repaired, report.faults, report.notes = report.faults, left.faults, left.notes
    return report


def _repair(
    catalog: Catalog, report: VerifyReport, load_models: LoadModels, options: BuildOptions
) -> None:
    """Repair the faults in `report`, and record in it what was embedded and lost."""
    damaged = frozenset(place for fault in report.faults for place in fault.places)
    shards = sorted({fault.shard for fault in report.faults if fault.shard is not None})
    rewrite_shards(catalog, shards, options.shard_images, damaged)
    images = catalog.images_at(sorted(damaged))
    paths = [image.path for key in sorted(images) for image in images[key]]
    _embed_again(catalog, paths, report, load_models, options)
    remaining = [number for number in shards if number in catalog.shard_files()]
    rewrite_shards(catalog, remaining, options.shard_images, damaged)
    repair_files(catalog, report.faults)
    if any(VECTORS_FILES.fullmatch(fault.where) for fault in report.faults):
        write_metadata(catalog, replace(read_metadata(catalog), generation=-1, kind=None))


def _embed_again(
    catalog: Catalog,
    paths: Sequence[str],
    report: VerifyReport,
    load_models: LoadModels,
    options: BuildOptions,
) -> None:
    """Embed images whose regions are damaged; those whose files are gone or bad are removed."""
    writer = ShardWriter(catalog, load_models, options)
    places: dict[str, tuple[int, int]] = {}
    with (
        progress_bar("Repairing", len(paths), "images", options.progress) as advance,
        contextlib.closing(
            read_batches(
                paths, places, options.workers, count=options.batch_images, memory=options.memory
            )
        ) as groups,
        contextlib.closing(writer.embed_ahead(groups, places)) as embedded,
    ):
        for batch in embedded:
            for item in batch:
                if isinstance(item, SkippedFile):
                    if item.reason == "missing" or item.reason not in TRANSIENT_REASONS:
                        writer.skip(item)
                        report.lost.append(item.path)
                elif (place := places.get(item.content_hash)) is not None:
                    writer.describe(item)
                    writer.link(item, place, touched=False, instead_of=None)
            writer.commit_full()
            advance(len(batch))
        writer.commit()
    report.embedded = writer.embedded
