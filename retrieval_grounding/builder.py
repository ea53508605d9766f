"""Building an index: what ``rg.build`` and ``rg.preview_build`` are.

The module is not named ``build``: as an attribute of the package, it would hide the function.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from .core.errors import StoreError
from .core.paths import absolute_path
from .core.reports import BuildOptions, BuildReport
from .core.types import PathLike
from .data.expressions import read_expressions
from .data.metadata_file import read_metadata_file
from .data.names import described_images
from .data.sources import Collection, search
from .index import Index
from .indexing.image_passes import sync_image_passes
from .indexing.merge import merge_small_shards
from .indexing.metadata import store_metadata
from .indexing.model_spec import (
    check_named,
    checked_loader,
    consent_to,
    new_spec,
    recorded_spec,
    spec_settings,
)
from .indexing.pipeline import add_images, preview_images
from .indexing.place import check_place
from .indexing.rebuild import finish_rebuild, rebuild_catalog
from .indexing.sweep import sweep_leftovers
from .indexing.tuning_phrases import phrase_source
from .matching.calibrate import calibrate_index
from .models.detector import Detector, DetectorSettings
from .models.encoder import Encoder
from .storage.catalog import Catalog
from .storage.lock import writer_lock
from .storage.vectors.sync import sync_vectors

__all__ = ["build", "preview_build"]


def build(
    sources: PathLike | Iterable[PathLike],
    directory: PathLike,
    *,
    preset: str | None = None,
    detector: str | Detector | None = None,
    clip: str | Encoder | None = None,
    settings: DetectorSettings | None = None,
    device: str = "auto",
    options: BuildOptions | None = None,
    metadata: PathLike | None = None,
    refs: PathLike | None = None,
    timeout: float = 0.0,
) -> Index:
    """Build an index over images, or update one with what is new or has changed.

    Parameters
    ----------
    sources : path or iterable of paths
        Folders, image files, URLs, ``.zip`` and ``.tar`` archives, glob patterns and ``.txt``
        lists; see :func:`retrieval_grounding.find_images`.
    directory : path
        Folder of the index: new, empty, or an index.
    preset : str, optional
        ``nano`` (the default), ``base``, ``large`` or ``seed``. An existing index keeps its own.
    detector, clip : str or object, optional
        Models to use instead of the preset's: a name as for :func:`load_detector` and
        :func:`load_encoder`, or your own :class:`Detector` and :class:`Encoder`.
    settings : DetectorSettings, optional
        Thresholds of the detector.
    device : str
        Where the models run: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    options : BuildOptions, optional
        Batch size, shard size, workers, progress, pruning, what to leave out.
    metadata : path, optional
        A ``.csv``, ``.jsonl`` or ``.parquet`` file with a row for each image, keyed by a column
        ``path`` (or ``file_name``), ``stem`` or ``id``. Its columns can be asked for in
        :class:`Query` (`where`), and hits carry them.
    refs : path, optional
        Expressions, as for :func:`read_expressions`: only images that they are about are indexed.
    timeout : float
        Seconds to wait while a different writer is at work; ``math.inf`` waits without a limit.

    Returns
    -------
    Index
        Open; its ``build_report`` says what was done and which files were skipped.

    Raises
    ------
    SourceError
        If a source does not exist or no image is found.
    MetadataError
        If the metadata cannot be used.
    ExpressionError
        If `refs` cannot be read, or is about none of the images.
    StoreError
        If `directory` has other files, or an index that is damaged.
    StoreLockedError
        If a different writer is still at work after `timeout` seconds.
    ModelError
        If weights cannot be loaded, or are not those that built the existing index.
    BuildInterrupted
        After Ctrl-C, once everything that was embedded has been committed.
    """
    directory, options = _index_folder(directory), options or BuildOptions()
    table = None if metadata is None else read_metadata_file(metadata)
    collection = _find(sources, options, directory, refs)
    check_place(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{directory} cannot be created: {error.strerror}") from error
    with writer_lock(directory, timeout) as lock:
        state = check_place(directory)
        if state == "index":
            catalog = Catalog(directory, writable=True, lock=lock)
            spec = recorded_spec(catalog, preset, detector, clip, settings)
        else:
            spec = new_spec(preset, detector, clip, settings)
            models = spec.load(device)
            recorded = spec_settings(preset, spec, models)
            if state == "lost":
                prints = [models.detector.fingerprint, str(models.encoder.fingerprint)]
                catalog = rebuild_catalog(directory, recorded, prints, lock)
            else:
                catalog = Catalog.create(directory, recorded, lock=lock)
            consent_to(directory, spec.detector, spec.encoder)
        with contextlib.closing(catalog):
            finish_rebuild(catalog)
            sweep_leftovers(catalog)
            load = checked_loader(catalog, spec, device)
            check_named(catalog, spec, load)
            report = add_images(catalog, collection, load, options)
            merge_small_shards(catalog, options.shard_images, indexed=True)
            if table is not None:
                report.described, report.unmatched = store_metadata(catalog, table)
            phrases = phrase_source(catalog, lambda: load().encoder)
            sync_vectors(catalog, phrases, options.progress)
            if report.embedded:
                calibrate_index(catalog, load().encoder)
            sync_image_passes(catalog, options.progress)
    index = Index(directory, encoder=clip, device=device)
    index.build_report = report
    return index


def preview_build(
    sources: PathLike | Iterable[PathLike],
    directory: PathLike,
    *,
    preset: str | None = None,
    detector: str | Detector | None = None,
    clip: str | Encoder | None = None,
    settings: DetectorSettings | None = None,
    device: str = "auto",
    options: BuildOptions | None = None,
    refs: PathLike | None = None,
) -> BuildReport:
    """Return what :func:`build` would do; nothing is decoded, embedded or written.

    New and changed files are read for their content hashes. Damage is found only by decoding, so
    new damaged files count as added. Parameters are those of :func:`build`; models are loaded only
    if they are given and are not those that the index names.

    Raises
    ------
    SourceError
        If a source does not exist or no image is found.
    ExpressionError
        If `refs` cannot be read, or is about none of the images.
    ModelError
        If the models do not exist, or are not those that built the existing index.
    """
    directory, options = _index_folder(directory), options or BuildOptions()
    collection = _find(sources, options, directory, refs)
    catalog = Catalog(directory) if check_place(directory) == "index" else None
    given = (preset, detector, clip, settings)
    if given == (None, None, None, None):
        pass  # nothing to check, and an index built with objects can be previewed without them
    elif catalog is None:
        new_spec(*given).load(device)
    else:
        spec = recorded_spec(catalog, *given)
        check_named(catalog, spec, checked_loader(catalog, spec, device))
    return preview_images(catalog, collection, options)


def _find(
    sources: PathLike | Iterable[PathLike],
    options: BuildOptions,
    directory: Path,
    refs: PathLike | None,
) -> Collection:
    collection = search(sources, options, directory)
    return collection if refs is None else described_images(collection, read_expressions(refs))


def _index_folder(directory: PathLike) -> Path:
    if not os.fspath(directory):
        raise StoreError("an empty path names no index; name a folder")
    return Path(absolute_path(directory))
