"""The facade: build or open an index, query it, and ground a phrase in one image."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from .building import BuildOptions, BuildReport, add_images, preview_images
from .choosing import (
    checked_loader,
    describe_models,
    encoder_of,
    existing_models,
    load_models,
    new_models,
)
from .colours import region_colours
from .detectors import Detector, DetectorSettings
from .encoders import Encoder, clean_phrase, embed_labels, load_encoder
from .errors import GroundingError, ModelError, StoreError
from .hits import Hit
from .images import PathLike, as_list, find_images, load_image, source_folders
from .maintaining import (
    CompactReport,
    choose_shards,
    matching_images,
    remove_images,
    rewrite_shards,
    sweep_leftovers,
    writing,
)
from .matching import CosineMatcher, Matcher
from .presets import DEFAULT_PRESET
from .querying import Searcher, rank_regions
from .repairing import repair_index
from .storage.catalog import Catalog, ImageRow, SkippedFile
from .storage.files import folder_size
from .storage.lock import writer_lock
from .tables import Phrases, RegionTable
from .vectors.following import refresh_vectors
from .verifying import VerifyReport, verify_index

__all__ = ["Index", "build", "ground", "preview_build"]


class Index:
    """An index over a collection of images, opened for reading.

    Made by :func:`build` or :meth:`open`.

    Parameters
    ----------
    directory : path
        Where the index lies.
    encoder : Encoder, optional
        Takes the place of the encoder that the index names; needed if it was built with an
        encoder object instead of a name.
    device : str
        Where the models run: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises
    ------
    StoreError
        If there is no index, it is damaged, or of a newer format.
    ModelError
        If `encoder` is not the one that built the index.

    Attributes
    ----------
    build_report : BuildReport or None
        What :func:`build` did, if it made this object.
    """

    def __init__(
        self, directory: PathLike, *, encoder: Encoder | None = None, device: str = "auto"
    ) -> None:
        self.directory = Path(directory)
        self.build_report: BuildReport | None = None
        self._catalog = Catalog(self.directory)
        self._device = device
        self._matcher: Matcher = CosineMatcher()
        if encoder is not None:
            self._check_encoder(encoder)
            self.__dict__["encoder"] = encoder

    @classmethod
    def open(
        cls, directory: PathLike, *, encoder: Encoder | None = None, device: str = "auto"
    ) -> Index:
        """Open the index in `directory`; see the class for parameters and errors."""
        return cls(directory, encoder=encoder, device=device)

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that built the index; loaded when first needed."""
        spec = self._catalog.setting("clip")
        if not isinstance(spec, str):
            raise ModelError(
                f"{self.directory} was built with an encoder object; "
                "pass the same one: Index.open(..., encoder=...)"
            )
        encoder = load_encoder(spec, self._device)
        self._check_encoder(encoder)
        return encoder

    @cached_property
    def _searcher(self) -> Searcher:
        return Searcher(self._catalog)

    @overload
    def query(self, phrases: str, top: int = 10, candidates: int = 100) -> list[Hit]: ...

    @overload
    def query(
        self, phrases: list[str] | tuple[str, ...], top: int = 10, candidates: int = 100
    ) -> list[list[Hit]]: ...

    def query(
        self, phrases: str | list[str] | tuple[str, ...], top: int = 10, candidates: int = 100
    ) -> list[Hit] | list[list[Hit]]:
        """Find the regions that phrases refer to, at most one in each image.

        Parameters
        ----------
        phrases : str, or list or tuple of str
            What to find; several are answered in one pass.
        top : int
            Hits wanted for each phrase.
        candidates : int
            Images that the vector index proposes for each phrase; all regions of each are scored.

        Returns
        -------
        list of Hit, or a list of such lists
            Best first; one list for each phrase of a sequence.

        Raises
        ------
        PhraseError
            If a phrase is empty or not text.
        """
        if top < 1 or candidates < 1:
            raise GroundingError("top and candidates must be at least 1")
        asked = [phrases] if isinstance(phrases, str) else list(phrases)
        cleaned = [clean_phrase(phrase) for phrase in asked]
        if not cleaned:
            return []
        wanted = Phrases(cleaned, self.encoder.encode_phrases(cleaned))
        found = self._searcher.search(wanted, self._matcher, top, candidates)
        return found[0] if isinstance(phrases, str) else found

    def images(self) -> Iterable[ImageRow]:
        """Yield every image of the index, by path."""
        return self._catalog.images()

    def skipped(self) -> list[SkippedFile]:
        """Return the files that could not be indexed, and why."""
        return self._catalog.skipped()

    def remove(self, paths: PathLike | Iterable[PathLike] = (), glob: str | None = None) -> int:
        """Forget images; the next build of a folder that still has them adds them again.

        Parameters
        ----------
        paths : path or iterable of paths
            Images, or folders with all that is below them.
        glob : str, optional
            A pattern for absolute paths, in which ``*`` matches everything, ``/`` too.

        Returns
        -------
        int
            Number of images that were removed.

        Raises
        ------
        StoreError
            If a path or the pattern names no image of the index.
        """
        named = as_list(paths)
        with writing(self.directory) as catalog:
            chosen = matching_images(catalog, named, glob)
            remove_images(catalog, chosen)
        return len(chosen)

    def compact(self, max_unused: float = 0.2, shard_images: int = 512) -> CompactReport:
        """Rewrite shards that are partly unused, and put small ones together.

        Parameters
        ----------
        max_unused : float
            Share of a shard's regions that may be unused, left by changed and removed images.
        shard_images : int
            Images in a new shard.
        """
        with writing(self.directory) as catalog:
            numbers = choose_shards(catalog, max_unused, shard_images)
            return rewrite_shards(catalog, numbers, shard_images)

    def verify(
        self,
        *,
        repair: bool = False,
        detector: Detector | None = None,
        clip: Encoder | None = None,
        options: BuildOptions | None = None,
    ) -> VerifyReport:
        """Check that catalog, shards and vector index are what was written, and agree.

        Parameters
        ----------
        repair : bool
            Put right what is wrong: what is intact is kept, damaged images are embedded again.
        detector, clip : optional
            Model objects; needed for a repair if the index was built with objects.
        options : BuildOptions, optional
            For embedding, and whether to show progress.

        Raises
        ------
        StoreError
            If the catalog itself cannot be read.
        """
        options = options or BuildOptions()
        report = verify_index(self._catalog, options.progress)
        if not repair or not report.faults:
            return report
        with writing(self.directory) as catalog:
            report = verify_index(catalog, options.progress)
            wanted = existing_models(catalog, None, detector, clip, None)
            repair_index(catalog, report, checked_loader(catalog, wanted, self._device), options)
        left = verify_index(self._catalog, options.progress)
        report.repaired, report.faults = report.faults, left.faults
        return report

    def info(self) -> dict[str, Any]:
        """Return what the index holds and which models built it, as plain values."""
        keys = ("format_version", "preset", "detector", "clip", "dimension", "created_with")
        settings = {key: self._catalog.setting(key) for key in keys}
        return {
            "directory": str(self.directory),
            **settings,
            "detector_fingerprint": self._catalog.setting("detector_fingerprint"),
            "encoder_fingerprint": str(encoder_of(self._catalog)),
            **self._catalog.counts(),
            "bytes": folder_size(self.directory),
        }

    def __len__(self) -> int:
        """Return the number of images."""
        return self._catalog.counts()["images"]

    def _check_encoder(self, encoder: Encoder) -> None:
        built_with = encoder_of(self._catalog)
        if not encoder.fingerprint.matches(built_with):
            raise ModelError(
                f"{self.directory} was built with the encoder {built_with}, and this is "
                f"{encoder.fingerprint}: their embeddings cannot be compared; "
                "use the same weights or build a new index"
            )


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
    directory = Path(directory)
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
        with contextlib.closing(catalog):
            sweep_leftovers(catalog)
            folders = source_folders(sources)
            load = checked_loader(catalog, wanted, device)
            report = add_images(catalog, paths, folders, load, options or BuildOptions())
            refresh_vectors(catalog)
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


@overload
def ground(
    image: PathLike,
    phrases: str,
    *,
    preset: str = ...,
    detector: str | Detector | None = ...,
    clip: str | Encoder | None = ...,
    settings: DetectorSettings | None = ...,
    device: str = ...,
) -> Hit: ...


@overload
def ground(
    image: PathLike,
    phrases: list[str] | tuple[str, ...],
    *,
    preset: str = ...,
    detector: str | Detector | None = ...,
    clip: str | Encoder | None = ...,
    settings: DetectorSettings | None = ...,
    device: str = ...,
) -> list[Hit]: ...


def ground(
    image: PathLike,
    phrases: str | list[str] | tuple[str, ...],
    *,
    preset: str = DEFAULT_PRESET,
    detector: str | Detector | None = None,
    clip: str | Encoder | None = None,
    settings: DetectorSettings | None = None,
    device: str = "auto",
) -> Hit | list[Hit]:
    """Find the region of one image that a phrase refers to, without an index.

    Parameters
    ----------
    image : path
        An image file.
    phrases : str, or list or tuple of str
        What to find.
    preset, detector, clip, settings, device
        As for :func:`build`. Models stay in memory for the next call.

    Returns
    -------
    Hit, or one for each phrase of a sequence

    Raises
    ------
    ImageError
        If the image cannot be used.
    PhraseError
        If a phrase is empty or not text.
    """
    asked = [phrases] if isinstance(phrases, str) else list(phrases)
    cleaned = [clean_phrase(phrase) for phrase in asked]
    pixels = load_image(image)
    finder, encoder = load_models(*new_models(preset, detector, clip, settings), device)
    [regions] = finder.detect([pixels])
    names = sorted(set(regions.labels))
    table = RegionTable(
        encoder.encode_regions([pixels], [regions]),
        regions.boxes,
        regions.scores,
        np.array([names.index(label) for label in regions.labels]),
        region_colours(pixels, regions.boxes),
        np.array([0, len(regions)]),
        names,
        embed_labels(encoder, names),
    )
    wanted = Phrases(cleaned, encoder.encode_phrases(cleaned))
    ranked = rank_regions(wanted, os.fspath(image), table, CosineMatcher(), top=1)
    hits = [best for [best] in ranked]
    return hits[0] if isinstance(phrases, str) else hits
