"""Embedding images and committing them: batches through the models, shards to the catalog."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from .colours import region_colours
from .detectors import Detector
from .devices import free_memory, is_out_of_memory
from .encoders import Encoder, embed_labels
from .reading import LoadedImage
from .regions import Regions
from .storage.catalog import Catalog
from .storage.rows import NewShard, Place, SkippedFile, StoredImage
from .storage.shards import ImageRecord, write_shard

__all__ = ["ShardWriter"]

Models = tuple[Detector, Encoder]


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
        self._batch_limit: int | None = None
        self._shard = catalog.next_shard()
        self._clear()

    def _clear(self) -> None:
        self._records: list[ImageRecord] = []
        self._images: list[StoredImage] = []
        self._touched: list[StoredImage] = []
        self._removed: list[str] = []
        self._skipped: list[SkippedFile] = []

    def embed(self, batch: Sequence[LoadedImage | SkippedFile], places: dict[str, Place]) -> None:
        """Embed the images of a batch whose content is new.

        Parameters
        ----------
        batch : sequence
            Skipped files are left out.
        places : dict of str to Place
            Where the regions of each content lie, by content hash. The new ones are added, but for
            images that alone fill the memory of the device.
        """
        new: dict[str, LoadedImage] = {}
        for item in batch:
            if isinstance(item, LoadedImage) and item.content_hash not in places:
                new.setdefault(item.content_hash, item)
        waiting = list(new.values())
        while waiting:
            part = waiting[: self._batch_limit]
            images = [item.image for item in part if item.image is not None]
            try:
                detector, encoder = self._get_models()
                regions = detector.detect(images)
                embeddings = encoder.encode_regions(images, regions)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                free_memory()
                if len(part) > 1:
                    self._batch_limit = len(part) // 2
                    continue
            else:
                places.update(self._queue(part, regions, embeddings))
            waiting = waiting[len(part) :]

    def _queue(
        self,
        loaded: Sequence[LoadedImage],
        regions: Sequence[Regions],
        embeddings: npt.NDArray[np.floating],
    ) -> dict[str, Place]:
        places = {}
        start = 0
        for item, found in zip(loaded, regions, strict=True):
            assert item.image is not None
            rows = embeddings[start : start + len(found)]
            start += len(found)
            colours = region_colours(item.image, found.boxes)
            places[item.content_hash] = (self._shard, len(self._records))
            self._records.append(
                ImageRecord(item.content_hash, *item.image.size, found, rows, colours)
            )
        self.embedded += len(loaded)
        self.regions += start
        return places

    def link(
        self, loaded: LoadedImage, place: Place, *, touched: bool, instead_of: str | None
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
