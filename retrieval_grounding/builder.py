"""Making an index: the functions that build one and that say what a build would do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from .core.errors import StoreError
from .core.reports import BuildOptions, BuildReport
from .core.types import PathLike
from .data.sources import as_list, find_images, source_folders
from .index import Index
from .indexing.model_spec import (
    checked_loader,
    describe_models,
    existing_models,
    load_models,
    new_models,
)
from .indexing.pipeline import add_images, preview_images
from .indexing.reindex import phrase_source
from .indexing.sweep import sweep_leftovers
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
) -> Index:
    """Build an index over images, or add to one what is new or has changed.

    Parameters
    ----------
    sources : path or iterable of paths
        Folders, image files, glob patterns and ``.txt`` lists; see
        :func:`retrieval_grounding.find_images`.
    directory : path
        Where the index lies or will lie.
    preset : str, optional
        ``nano`` (the default), ``base``, ``large`` or ``seed``. An existing index keeps its own.
    detector, clip : optional
        Take the place of the preset's: a name as in :func:`load_detector` and
        :func:`load_encoder`, or an object with the protocol's methods.
    settings : DetectorSettings, optional
        What the detector keeps.
    device : str
        Where the models run.
    options : BuildOptions, optional
        Batch size, shard size, threads, progress.

    Returns
    -------
    Index
        Opened; its ``build_report`` says what was done and which files were skipped.

    Raises
    ------
    SourceError
        If a source is missing or nothing is found.
    StoreLockedError
        If another process is writing to the index.
    ModelError
        If weights cannot be loaded, or are not those of the existing index.
    """
    directory, options = Path(directory), options or BuildOptions()
    sources = as_list(sources)
    paths = find_images(sources)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{directory} cannot be made: {error.strerror}") from error
    with writer_lock(directory):
        if Catalog.exists(directory):
            catalog = Catalog(directory, writable=True)
            wanted = existing_models(catalog, preset, detector, clip, settings)
        else:
            wanted = new_models(preset, detector, clip, settings)
            loaded = load_models(*wanted, device)
            catalog = Catalog.create(directory, describe_models(preset, *wanted, *loaded))
        from .matching.calibrate import calibrate_index

        with contextlib.closing(catalog):
            sweep_leftovers(catalog)
            folders = source_folders(sources)
            load = checked_loader(catalog, wanted, device)
            report = add_images(catalog, paths, folders, load, options)
            sync_vectors(
                catalog,
                phrase_source(catalog, lambda: load()[1]),
                (options or BuildOptions()).progress,
            )
            if report.embedded:
                calibrate_index(catalog, load()[1])
    encoder = clip if clip is not None and not isinstance(clip, str) else None
    index = Index(directory, encoder=encoder, device=device)
    index.build_report = report
    return index


def preview_build(
    sources: PathLike | Iterable[PathLike],
    directory: PathLike,
    *,
    options: BuildOptions | None = None,
) -> BuildReport:
    """Say what :func:`build` would do; nothing is decoded, embedded or written.

    New and changed files are read for their content hashes. Whether they can be decoded is not
    known, so new bad files count as added.

    Raises
    ------
    SourceError
        If a source is missing or nothing is found.
    """
    sources = as_list(sources)
    paths, directory = find_images(sources), Path(directory)
    catalog = Catalog(directory) if Catalog.exists(directory) else None
    return preview_images(catalog, paths, source_folders(sources), options or BuildOptions())
