"""Embedding images and committing them: batches through the models, shards to the catalog."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..core.colors import region_colors
from ..core.regions import Regions
from ..core.reports import SkippedFile
from ..core.types import RowKey
from ..data.prefetch import LoadedImage
from ..models.batch_size import Halving
from ..models.detector import Detector
from ..models.encoder import Encoder, embed_labels
from ..storage.catalog import Catalog
from ..storage.rows import NewShard, StoredImage
from ..storage.shard_format import ImageRecord, write_shard
from .stages import overlapped

__all__ = ["ShardWriter"]


Models = tuple[Detector, Encoder]
Item = LoadedImage | SkippedFile

_Result = tuple[Regions, npt.NDArray[np.floating], npt.NDArray[np.uint8]]
"""Regions of an image, their embeddings and their colors."""


@dataclass
class _Work:
    """A group of files on its way through the stages; None stands for what fills the memory."""

    group: list[Item]
    new: list[LoadedImage]
    regions: list[Regions | None] = field(default_factory=list)
    results: list[_Result | None] = field(default_factory=list)


class ShardWriter:
    """Embeds images, and commits a shard whenever enough have come.

    What changes without embedding, such as the path of a moved image, is committed with the next
    shard. Models are loaded when the first image comes.

    Parameters
    ----------
    catalog : Catalog
        Of the index; the caller holds the writer's lock.
    load_models : callable
        Returns detector and encoder.
    shard_images : int
        Images in a shard.

    Attributes
    ----------
    embedded, regions : int
        Images and regions that went through the models.
    loading_seconds : float
        Time that loading the models took.
    """

    def __init__(
        self, catalog: Catalog, load_models: Callable[[], Models], shard_images: int
    ) -> None:
        self.embedded = 0
        self.regions = 0
        self.loading_seconds = 0.0
        self._catalog = catalog
        self._load_models = load_models
        self._models: Models | None = None
        self._shard_images = shard_images
        self._detecting: Halving = Halving()
        self._encoding: Halving = Halving()
        self._shard = catalog.next_shard()
        self._clear()

    def _clear(self) -> None:
        self._records: list[ImageRecord] = []
        self._images: list[StoredImage] = []
        self._touched: list[StoredImage] = []
        self._removed: list[str] = []
        self._skipped: list[SkippedFile] = []

    def embed_ahead(
        self, groups: Iterable[list[Item]], places: dict[str, RowKey]
    ) -> Generator[list[Item], None, None]:
        """Embed the images whose content is new, and yield each group when its own are.

        Detecting, encoding and what the caller does overlap; at most five groups are under way.
        Close the iterator to stop early: what it has not yielded is not in the index.

        Parameters
        ----------
        groups : iterable of lists
            Skipped files are left out.
        places : dict of str to RowKey
            Where the regions of each content lie, by content hash. The new ones are added, but for
            images that alone fill the memory of the device.
        """
        claimed: set[str] = set()
        chosen = (_Work(group, self._claim(group, places, claimed)) for group in groups)
        with (
            contextlib.closing(overlapped(self._detect, chosen)) as detected,
            contextlib.closing(overlapped(self._encode, detected)) as encoded,
        ):
            for work in encoded:
                for item, result in zip(work.new, work.results, strict=True):
                    claimed.discard(item.content_hash)
                    if result is not None:
                        places[item.content_hash] = self._queue(item, *result)
                yield work.group

    def _claim(
        self, group: Sequence[Item], places: dict[str, RowKey], claimed: set[str]
    ) -> list[LoadedImage]:
        """Return the first image of each content that is neither known nor under way."""
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
            return self._get_models()[0].detect(images)

        work.regions = self._detecting(detect, [_pixels(item) for item in work.new])
        return work

    def _encode(self, work: _Work) -> _Work:
        def encode(pairs: list[tuple[Image.Image, Regions]]) -> list[_Result]:
            images, regions = [image for image, _ in pairs], [found for _, found in pairs]
            embeddings = self._get_models()[1].encode_regions(images, regions)
            ends = np.cumsum([len(found) for found in regions])
            rows = np.split(embeddings, ends[:-1])
            return [
                (found, part, region_colors(image, found.boxes))
                for (image, found), part in zip(pairs, rows, strict=True)
            ]

        pairs = [
            (_pixels(item), found)
            for item, found in zip(work.new, work.regions, strict=True)
            if found is not None
        ]
        encoded = iter(self._encoding(encode, pairs))
        work.results = [None if found is None else next(encoded) for found in work.regions]
        return work

    def _queue(
        self,
        item: LoadedImage,
        found: Regions,
        embeddings: npt.NDArray[np.floating],
        colors: npt.NDArray[np.uint8],
    ) -> RowKey:
        place = (self._shard, len(self._records))
        size = _pixels(item).size
        self._records.append(ImageRecord(item.content_hash, *size, found, embeddings, colors))
        self.embedded += 1
        self.regions += len(found)
        return place

    def link(
        self, loaded: LoadedImage, place: RowKey, *, touched: bool, instead_of: str | None
    ) -> None:
        """Let a file have the regions at `place`.

        With `touched` it has them already, and only its size and time are new. A moved image takes
        the place of the path `instead_of`.
        """
        image = StoredImage(loaded.path, loaded.size, loaded.mtime_ns, *place)
        (self._touched if touched else self._images).append(image)
        if instead_of is not None:
            self._removed.append(instead_of)

    def skip(self, file: SkippedFile) -> None:
        """Remember that a file cannot be indexed; what the index had of it is forgotten."""
        self._skipped.append(file)

    def remove(self, paths: Sequence[str]) -> None:
        """Forget images."""
        self._removed += paths

    def commit_full(self) -> None:
        """Commit if a shard is full or as many other changes wait."""
        changes = len(self._images) + len(self._touched) + len(self._skipped)
        if max(len(self._records), changes) >= self._shard_images:
            self.commit()

    def commit(self) -> None:
        """Write the shard, then the catalog: a shard exists once the catalog has committed it."""
        shard: NewShard | None = None
        if self._records:
            detector, encoder = self._get_models()
            shard = write_shard(
                self._catalog.directory / "shards",
                self._shard,
                self._records,
                embed_labels=partial(embed_labels, encoder),
                detector=detector.fingerprint,
                encoder=str(encoder.fingerprint),
            )
        self._catalog.commit(
            shard=shard,
            images=self._images,
            touched=self._touched,
            removed=self._removed,
            skipped=self._skipped,
        )
        self._shard = self._catalog.next_shard()
        self._clear()

    def _get_models(self) -> Models:
        if self._models is None:
            started = time.perf_counter()
            self._models = self._load_models()
            self.loading_seconds = time.perf_counter() - started
        return self._models


def _pixels(item: LoadedImage) -> Image.Image:
    assert item.image is not None
    return item.image
