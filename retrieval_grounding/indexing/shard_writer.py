"""Writing shards: batches of images go through the models, full shards into the catalog."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..core.colors import region_colors
from ..core.photo import Photo
from ..core.regions import Regions
from ..core.reports import BuildOptions, SkippedFile
from ..core.types import RowKey
from ..data.prefetch import LoadedImage
from ..data.thumbnails import make_thumbnail
from ..models.batch_size import AdaptiveBatchSize
from ..models.checks import detect_regions, embed_labels
from ..storage.catalog import Catalog
from ..storage.rows import NewShard, StoredImage
from ..storage.shard_format import ImageRecord, write_shard
from .model_spec import LoadModels, Models, encoder_fingerprint
from .stages import overlapped

__all__ = ["ShardWriter"]


_THUMBNAILS = "thumbnails"
"""Setting of the catalog: whether new images get thumbnails."""

Item = LoadedImage | SkippedFile

_Encoded = tuple[Regions, npt.NDArray[np.floating]]
"""Regions of an image and their embeddings."""

_Result = tuple[Regions, npt.NDArray[np.floating], npt.NDArray[np.uint8]]
"""Regions of an image, their embeddings and their colors."""


@dataclass
class _Work:
    """A group of files on its way through the stages; None marks an image too large for memory."""

    group: list[Item]
    new: list[LoadedImage]
    regions: list[Regions | None] = field(default_factory=list)
    encoded: list[_Encoded | None] = field(default_factory=list)
    results: list[_Result | None] = field(default_factory=list)


class ShardWriter:
    """Embeds images and commits a shard whenever enough have been embedded.

    Changes without embedding, such as the new path of a moved image, are committed with the next
    shard. Models are loaded with the first image.

    Parameters
    ----------
    catalog : Catalog
        Of the index; the caller holds the writer's lock.
    load_models : callable
        Returns the detector and the encoder.
    options : BuildOptions
        Images per shard, and whether to keep thumbnails from now on.

    Attributes
    ----------
    embedded, regions : int
        Images and regions that went through the models.
    loading_seconds : float
        Time spent loading the models.
    """

    def __init__(self, catalog: Catalog, load_models: LoadModels, options: BuildOptions) -> None:
        self.embedded = 0
        self.regions = 0
        self.loading_seconds = 0.0
        self._catalog = catalog
        self._load_models = load_models
        self._models: Models | None = None
        self._shard_images = options.shard_images
        self._thumbnails = bool(catalog.setting(_THUMBNAILS))
        if options.thumbnails and not self._thumbnails:
            catalog.set_setting(_THUMBNAILS, True)
            self._thumbnails = True
        self._detecting: AdaptiveBatchSize = AdaptiveBatchSize()
        self._encoding: AdaptiveBatchSize = AdaptiveBatchSize()
        self._shard = catalog.next_shard()
        self._clear()

    def _clear(self) -> None:
        self._records: list[ImageRecord] = []
        self._images: list[StoredImage] = []
        self._touched: list[StoredImage] = []
        self._removed: list[str] = []
        self._skipped: list[SkippedFile] = []
        self._moves: list[tuple[str, str]] = []
        self._photos: dict[str, Photo] = {}

    def embed_ahead(
        self, groups: Iterable[list[Item]], places: dict[str, RowKey]
    ) -> Generator[list[Item], None, None]:
        """Embed the images whose content is new, and yield each group once that is done.

        Detection, encoding, colors and the caller's work overlap; at most seven groups are in
        progress.
        Close the iterator to stop early: groups that it has not yielded are not in the index.

        Parameters
        ----------
        groups : iterable of lists
            Read files; skipped files are passed through.
        places : dict of str to RowKey
            Where the regions of each content are stored, by content hash. New ones are added,
            except for images that fill the memory of the device by themselves.
        """
        claimed: set[str] = set()
        chosen = (_Work(group, self._claim(group, places, claimed)) for group in groups)
        with (
            contextlib.closing(overlapped(self._detect, chosen)) as detected,
            contextlib.closing(overlapped(self._encode, detected)) as encoded,
            contextlib.closing(overlapped(_measure_colors, encoded)) as measured,
        ):
            for work in measured:
                self._finish(work, places, claimed)
                yield work.group

    def embed(self, group: list[Item], places: dict[str, RowKey]) -> None:
        """Embed the images of one group whose content is new; see :meth:`embed_ahead`."""
        claimed: set[str] = set()
        work = _Work(group, self._claim(group, places, claimed))
        self._finish(_measure_colors(self._encode(self._detect(work))), places, claimed)

    def _finish(self, work: _Work, places: dict[str, RowKey], claimed: set[str]) -> None:
        for item, result in zip(work.new, work.results, strict=True):
            claimed.discard(item.content_hash)
            if result is not None:
                places[item.content_hash] = self._queue(item, *result)

    def _claim(
        self, group: Sequence[Item], places: dict[str, RowKey], claimed: set[str]
    ) -> list[LoadedImage]:
        """Return the first image of each content that is neither known nor in progress."""
        new: list[LoadedImage] = []
        for item in group:
            if isinstance(item, LoadedImage) and item.image is not None:
                digest = item.content_hash
                if digest not in places and digest not in claimed:
                    claimed.add(digest)
                    new.append(item)
        if new:
            self._get_models()
        return new

    def _detect(self, work: _Work) -> _Work:
        def detect(images: list[Image.Image]) -> list[Regions]:
            return detect_regions(self._get_models().detector, images)

        work.regions = self._detecting(detect, [_pixels(item) for item in work.new])
        return work

    def _encode(self, work: _Work) -> _Work:
        def encode(pairs: list[tuple[Image.Image, Regions]]) -> list[_Encoded]:
            images, regions = [image for image, _ in pairs], [found for _, found in pairs]
            return self._get_models().encode(images, regions)

        pairs = [
            (_pixels(item), found)
            for item, found in zip(work.new, work.regions, strict=True)
            if found is not None
        ]
        encoded = iter(self._encoding(encode, pairs))
        work.encoded = [None if found is None else next(encoded) for found in work.regions]
        return work

    def _queue(
        self,
        item: LoadedImage,
        found: Regions,
        embeddings: npt.NDArray[np.floating],
        colors: npt.NDArray[np.uint8],
    ) -> RowKey:
        place = (self._shard, len(self._records))
        image = _pixels(item)
        thumbnail = make_thumbnail(image) if self._thumbnails else b""
        self._records.append(
            ImageRecord(item.content_hash, *image.size, found, embeddings, colors, thumbnail)
        )
        self.embedded += 1
        self.regions += len(found)
        return place

    def link(
        self, loaded: LoadedImage, place: RowKey, *, touched: bool, instead_of: str | None
    ) -> None:
        """Link a file to the regions at `place`.

        If `touched`, it is linked to them already and only its size and time are new. A moved image
        replaces the path `instead_of`.
        """
        image = StoredImage(loaded.path, loaded.size, loaded.mtime_ns, *place)
        (self._touched if touched else self._images).append(image)
        if instead_of is not None:
            self._removed.append(instead_of)
            self._moves.append((loaded.path, instead_of))

    def describe(self, loaded: LoadedImage) -> None:
        """Record what a photograph that was decoded says about itself."""
        if loaded.photo is not None:
            self._photos[loaded.content_hash] = loaded.photo

    def skip(self, file: SkippedFile) -> None:
        """Record that a file cannot be indexed; the index forgets what it had of it."""
        self._skipped.append(file)

    def remove(self, paths: Sequence[str]) -> None:
        """Remove images."""
        self._removed += paths

    def commit_full(self) -> None:
        """Commit if a shard is full or as many other changes are pending."""
        changes = len(self._images) + len(self._touched) + len(self._skipped)
        if max(len(self._records), changes) >= self._shard_images:
            self.commit()

    def commit(self) -> None:
        """Write the shard, then the catalog: a shard exists once the catalog has committed it."""
        shard: NewShard | None = None
        if self._records:
            self._catalog.check_lock()
            # The catalog's fingerprints: the models' own may name their files otherwise.
            shard = write_shard(
                self._catalog.directory / "shards",
                self._shard,
                self._records,
                embed_labels=partial(embed_labels, self._get_models().encoder),
                detector=self._catalog.setting("detector_fingerprint"),
                encoder=str(encoder_fingerprint(self._catalog)),
            )
        self._catalog.commit(
            shard=shard,
            images=self._images,
            touched=self._touched,
            removed=self._removed,
            skipped=self._skipped,
            moves=self._moves,
            photos=self._photos,
        )
        self._shard = self._catalog.next_shard()
        self._clear()

    def _get_models(self) -> Models:
        if self._models is None:
            started = time.perf_counter()
            self._models = self._load_models()
            self.loading_seconds = time.perf_counter() - started
        return self._models


def _measure_colors(work: _Work) -> _Work:
    """Measure the colors of regions: in a stage of its own, since a GPU would wait for it."""
    work.results = [
        None if encoded is None else (*encoded, region_colors(_pixels(item), encoded[0].boxes))
        for item, encoded in zip(work.new, work.encoded, strict=True)
    ]
    return work


def _pixels(item: LoadedImage) -> Image.Image:
    assert item.image is not None
    return item.image
