"""Keeping shards open: the most recently used ones of an index."""

from __future__ import annotations

import threading
from collections import OrderedDict

from ..core.errors import StoreError
from .catalog import Catalog
from .shards import ShardReader

__all__ = ["OpenShards"]


_MAX_OPEN = 4096


class OpenShards:
    """Opens shards when they are needed, and closes the least recently used; threads may share it.

    Parameters
    ----------
    catalog : Catalog
        Names the shards.

    Attributes
    ----------
    files : dict of int to str
        File names of the shards, by number.
    regions : dict of int to int
        Regions of the shards, by number.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._limit = _max_open_shards()
        self._lock = threading.Lock()
        self._readers: OrderedDict[int, ShardReader] = OrderedDict()
        self.refresh()

    def refresh(self) -> None:
        """Read again which shards there are; open ones stay valid, as numbers are never reused."""
        with self._catalog.reading():
            self.files = self._catalog.shard_files()
            self.regions = self._catalog.shard_regions()

    def get(self, number: int) -> ShardReader:
        """Return the reader of a shard.

        Raises
        ------
        StoreError
            If the shard is missing or damaged.
        """
        with self._lock:
            reader = self._readers.get(number)
            if reader is None:
                reader = self._readers[number] = self._open(number)
                if len(self._readers) > self._limit:
                    self._readers.popitem(last=False)
            self._readers.move_to_end(number)
            return reader

    def _open(self, number: int) -> ShardReader:
        if number not in self.files:
            raise StoreError(
                f"shard {number} of {self._catalog.directory} no longer exists, because the index "
                "was compacted meanwhile; try again"
            )
        path = self._catalog.directory / "shards" / self.files[number]
        return ShardReader(path, number, self.regions.get(number))


def _max_open_shards() -> int:
    """Return how many shards to keep open: half of the files that the system allows.

    Opening a shard takes some milliseconds, and a phrase reads from nearly all of them.
    """
    try:
        import resource
    except ImportError:  # Windows allows more than this
        return _MAX_OPEN
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return _MAX_OPEN
    return max(1, min(allowed // 2, _MAX_OPEN))
