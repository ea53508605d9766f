"""Gathering the regions of images from shards into one table."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..core.region_table import RegionTable
from ..core.types import RowKey
from .catalog import Catalog
from .open_shards import OpenShards
from .region_ids import region_ids
from .shards import ShardReader, boxes_inside

__all__ = ["RegionStore"]


class RegionStore:
    """Reads regions from the shards of an index; threads may share it.

    Labels are numbered across shards, in the order in which they are first read.

    Parameters
    ----------
    catalog : Catalog
        Names the shards.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._shards = OpenShards(catalog)
        self._lock = threading.Lock()
        self._codes: dict[int, npt.NDArray[np.int64]] = {}
        # Replaced, never changed, because tables keep them.
        self._names: list[str] = []
        self._label_embeddings = np.zeros((0, 0), np.float32)

    @property
    def files(self) -> dict[int, str]:
        """File names of the shards, by number."""
        return self._shards.files

    def refresh(self) -> None:
        """Read again which shards there are, and close those that no longer exist."""
        self._shards.refresh()
        with self._lock:
            self._codes = {n: codes for n, codes in self._codes.items() if n in self.files}

    def close(self) -> None:
        """Close the shards, except those that a different open index of the process uses."""
        self._shards.close()

    def open_shard(self, number: int) -> ShardReader:
        """Return the reader of a shard.

        Raises
        ------
        StoreError
            If the shard is missing or damaged.
        """
        return self._shards.get(number)

    def gather(self, keys: Sequence[RowKey]) -> RegionTable:
        """Return the regions of images as one table, in the order of `keys`.

        An image's regions are one slice of each column.

        Raises
        ------
        StoreError
            If a shard is missing or damaged, or one of the boxes or scores is impossible.
        """
        return self.gather_with_ids(keys)[0]

    def gather_with_ids(self, keys: Sequence[RowKey]) -> tuple[RegionTable, list[int]]:
        """Return what :meth:`gather` does, and the id of the first region of each image.

        The ids of an image's regions are consecutive.
        """
        numbers = sorted({shard for shard, _ in keys})
        opened = {shard: self.open_shard(shard) for shard in numbers}
        parts = [(opened[shard], opened[shard].image_slice(row)) for shard, row in keys]
        starts = np.array([rows.start for _, rows in parts], np.int64)
        counts = np.array([rows.stop for _, rows in parts]) - starts
        shards = np.array([shard for shard, _ in keys], np.int64)
        codes = [self._label_codes(reader) for reader in opened.values()]
        with self._lock:
            names, label_embeddings = self._names, self._label_embeddings
        boxes = np.concatenate([reader.boxes[rows] for reader, rows in parts])
        scores = np.concatenate([reader.scores[rows] for reader, rows in parts])
        labels = np.concatenate([reader.labels[rows] for reader, rows in parts])
        # The codes of all shards are one table, in which each shard has its place.
        places = np.cumsum([0, *map(len, codes)])[np.searchsorted(numbers, shards)]
        sizes = np.array([opened[shard].image_sizes[row] for shard, row in keys])
        sound = boxes_inside(boxes, sizes.repeat(counts, axis=0))
        sound &= (scores >= 0) & (scores <= 1)
        if not sound.all():
            image = int(np.searchsorted(np.cumsum(counts), int(sound.argmin()), side="right"))
            raise parts[image][0].damaged("a box or a score in it is impossible")
        table = RegionTable(
            embeddings=np.concatenate([reader.embeddings[rows] for reader, rows in parts]),
            boxes=boxes,
            scores=scores,
            labels=np.concatenate(codes).take(labels + places.repeat(counts)),
            colors=np.concatenate([reader.colors[rows] for reader, rows in parts]),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            label_names=names,
            label_embeddings=label_embeddings,
        )
        ids: list[int] = region_ids(shards, starts).tolist()
        return table, ids

    def region_id(self, key: RowKey, number: int) -> int:
        """Return the id of region `number` of an image."""
        shard, row = key
        first = self.open_shard(shard).image_slice(row).start
        return int(region_ids(shard, np.array(first + number, np.int64)))

    def bytes_of(self, keys: Sequence[RowKey]) -> int:
        """Return about how many bytes :meth:`gather` needs for `keys`."""
        total = 0
        for shard, row in keys:
            reader = self.open_shard(shard)
            rows = reader.image_slice(row)
            bytes_per_region = 2 * reader.embeddings.shape[1] + 4 * 4 + 4 + 8 + 11
            total += (rows.stop - rows.start) * bytes_per_region
        return total

    def _label_codes(self, reader: ShardReader) -> npt.NDArray[np.int64]:
        """Return the numbers of a shard's labels across shards, after adding the new labels."""
        known_codes = self._codes.get(reader.number)
        if known_codes is not None:
            return known_codes
        with self._lock:
            if reader.number not in self._codes:
                known = {name: code for code, name in enumerate(self._names)}
                new = [row for row, name in enumerate(reader.label_names) if name not in known]
                if new:
                    self._names = [*self._names, *(reader.label_names[row] for row in new)]
                    rows = reader.label_embeddings[new].astype(np.float32)
                    known_rows = self._label_embeddings.reshape(-1, rows.shape[1])
                    self._label_embeddings = np.concatenate([known_rows, rows])
                    known = {name: code for code, name in enumerate(self._names)}
                codes = [known[name] for name in reader.label_names]
                self._codes[reader.number] = np.array(codes, np.int64)
            return self._codes[reader.number]
