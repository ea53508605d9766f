"""Gathering regions: images of the catalog → their slices of the shards → one table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .storage.catalog import Catalog
from .storage.shards import ShardReader
from .tables import RegionTable

__all__ = ["ImageKey", "RegionStore"]

ImageKey = tuple[int, int]
"""Shard number and image row: where the regions of an image lie."""

_OPEN_SHARDS = 256


class RegionStore:
    """Reads regions from the shards of an index.

    Class names are numbered over all shards that were read, in order of their first use.

    Parameters
    ----------
    catalog : Catalog
        Says which shards there are.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._folder = catalog.directory / "shards"
        self.files = catalog.shard_files()
        self.reader = lru_cache(maxsize=_OPEN_SHARDS)(self._open)
        self._codes: dict[str, int] = {}
        self._label_embeddings: list[npt.NDArray[np.float32]] = []

    def refresh(self) -> None:
        """Learn of shards that were added since; numbers of shards are never used twice."""
        self.files = self._catalog.shard_files()

    def gather(self, keys: Sequence[ImageKey]) -> RegionTable:
        """Return the regions of images as one table, in the order of `keys`."""
        parts = []
        for shard, row in keys:
            reader, codes = self.reader(shard)
            parts.append((reader, codes, reader.image_slice(row)))
        counts = [rows.stop - rows.start for _, _, rows in parts]
        return RegionTable(
            embeddings=np.concatenate([reader.embeddings[rows] for reader, _, rows in parts]),
            boxes=np.concatenate([reader.boxes[rows] for reader, _, rows in parts]),
            scores=np.concatenate([reader.scores[rows] for reader, _, rows in parts]),
            labels=np.concatenate([codes[reader.labels[rows]] for reader, codes, rows in parts]),
            colours=np.concatenate([reader.colours[rows] for reader, _, rows in parts]),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            label_names=list(self._codes),
            label_embeddings=np.array(self._label_embeddings, np.float32),
        )

    def region_ids(self, keys: Sequence[ImageKey]) -> npt.NDArray[np.int64]:
        """Return the ids of the regions that :meth:`gather` returns."""
        readers = [(self.reader(shard)[0], row) for shard, row in keys]
        return np.concatenate([reader.ids[reader.image_slice(row)] for reader, row in readers])

    def bytes_of(self, keys: Sequence[ImageKey]) -> int:
        """Return about how many bytes :meth:`gather` needs for `keys`."""
        readers = [(self.reader(shard)[0], row) for shard, row in keys]
        return sum(
            (rows.stop - rows.start) * (2 * reader.embeddings.shape[1] + 4 * 4 + 4 + 8 + 11)
            for reader, row in readers
            for rows in [reader.image_slice(row)]
        )

    def _open(self, number: int) -> tuple[ShardReader, npt.NDArray[np.int64]]:
        """Return a shard and the numbers that its class names have over all shards."""
        reader = ShardReader(self._folder / self.files[number], number)
        for name, embedding in zip(reader.label_names, reader.label_embeddings, strict=True):
            if name not in self._codes:
                self._codes[name] = len(self._codes)
                self._label_embeddings.append(embedding.astype(np.float32))
        codes = np.array([self._codes[name] for name in reader.label_names], np.int64)
        return reader, codes
