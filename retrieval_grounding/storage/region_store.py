"""Gathering regions: images of the catalog → their slices of the shards → one table."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..core.errors import StoreError
from ..core.region_table import RegionTable
from ..core.types import RowKey
from .catalog import Catalog
from .shards import ShardReader, most_open_shards

__all__ = ["RegionStore"]


class RegionStore:
    """Reads regions from the shards of an index; threads may share it.

    Class names are numbered over all shards that were read, in order of their first use.

    Parameters
    ----------
    catalog : Catalog
        Says which shards there are.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._folder = catalog.directory / "shards"
        self.refresh()
        self.reader = lru_cache(maxsize=most_open_shards())(self._open)
        self._labels = threading.Lock()
        self._codes: dict[str, int] = {}
        # Replaced, never changed, so that a table keeps what was known when it was gathered.
        self._names: list[str] = []
        self._label_embeddings = np.zeros((0, 0), np.float32)

    def refresh(self) -> None:
        """Learn of shards that were added since; numbers of shards are never used twice."""
        with self._catalog.reading():
            self.files = self._catalog.shard_files()
            self._regions = self._catalog.shard_regions()

    def open_shard(self, number: int) -> ShardReader:
        """Return a shard, from among those that are open if it is.

        Raises
        ------
        StoreError
            If it is missing or damaged.
        """
        return self.reader(number)[0]

    def gather(self, keys: Sequence[RowKey]) -> RegionTable:
        """Return the regions of images as one table, in the order of `keys`.

        An image's regions are one slice of each column.
        """
        parts = []
        for shard, row in keys:
            reader, codes = self.reader(shard)
            parts.append((reader, codes, reader.image_slice(row)))
        counts = [rows.stop - rows.start for _, _, rows in parts]
        with self._labels:
            names, label_embeddings = self._names, self._label_embeddings
        return RegionTable(
            embeddings=np.concatenate([reader.embeddings[rows] for reader, _, rows in parts]),
            boxes=np.concatenate([reader.boxes[rows] for reader, _, rows in parts]),
            scores=np.concatenate([reader.scores[rows] for reader, _, rows in parts]),
            labels=np.concatenate([codes[reader.labels[rows]] for reader, codes, rows in parts]),
            colors=np.concatenate([reader.colors[rows] for reader, _, rows in parts]),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            label_names=names,
            label_embeddings=label_embeddings,
        )

    def region_id(self, key: RowKey, number: int) -> int:
        """Return the id of region `number` of an image."""
        shard, row = key
        return int(self.open_shard(shard).region_ids(row)[number])

    def bytes_of(self, keys: Sequence[RowKey]) -> int:
        """Return about how many bytes :meth:`gather` needs for `keys`."""
        readers = [(self.open_shard(shard), row) for shard, row in keys]
        return sum(
            (rows.stop - rows.start) * (2 * reader.embeddings.shape[1] + 4 * 4 + 4 + 8 + 11)
            for reader, row in readers
            for rows in [reader.image_slice(row)]
        )

    def _open(self, number: int) -> tuple[ShardReader, npt.NDArray[np.int64]]:
        """Return a shard and the numbers that its class names have over all shards."""
        if number not in self.files:
            raise StoreError(
                f"the shard {number} of {self._catalog.directory} is gone: it was compacted "
                "meanwhile; try again"
            )
        reader = ShardReader(self._folder / self.files[number], number, self._regions.get(number))
        with self._labels:
            known = dict.fromkeys(self._names) | dict.fromkeys(reader.label_names)
            if len(known) > len(self._names):
                first = len(self._names)
                names = list(known)
                own = dict(zip(reader.label_names, reader.label_embeddings, strict=True))
                new = np.array([own[name] for name in names[first:]], np.float32)
                kept = self._label_embeddings if first else new[:0]
                self._names, self._label_embeddings = names, np.concatenate([kept, new])
                self._codes = {name: code for code, name in enumerate(names)}
            codes = np.array([self._codes[name] for name in reader.label_names], np.int64)
        return reader, codes
