"""Keeping shards open: the most recently used ones of the whole process."""

from __future__ import annotations

import errno
import heapq
import itertools
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import StoreError
from ..core.fork import ForkSafeLock
from .catalog import Catalog
from .shards import ShardReader

__all__ = ["OpenShards", "max_open_shards"]


_MAX_OPEN = 4096

_FileKey = tuple[str, int, int, int, int]
"""Path, device, inode, size and time: a file that replaces another one has a different key."""


_CLOCK = itertools.count()
"""Orders the uses of all open shards."""


@dataclass(slots=True)
class _OpenShard:
    reader: ShardReader
    used: int
    """When it was used last; written without a lock, as nothing is lost if two uses swap."""

    def use(self) -> ShardReader:
        self.used = next(_CLOCK)
        return self.reader


class _ShardCache:
    """The open shards of the process, which indexes that are open twice share."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._shards: dict[_FileKey, _OpenShard] = {}
        self.closed = 0  # how many have been
        self._owners: dict[_FileKey, set[int]] = {}

    def get(self, owner: int, key: _FileKey, number: int, regions: int | None) -> _OpenShard:
        """Return the shard of a file, for `owner` to release later; open it if necessary."""
        with self._lock:
            shard = self._shards.get(key)
            if shard is None:
                shard = _OpenShard(self._open(Path(key[0]), number, regions), next(_CLOCK))
                self._shards[key] = shard
                self._shrink(max_open_shards())
            self._owners.setdefault(key, set()).add(owner)
            return shard

    def release(self, owner: int, keys: Iterable[_FileKey]) -> None:
        """Close those files that only `owner` used, as soon as no table refers to their rows."""
        with self._lock:
            for key in keys:
                owners = self._owners.get(key, set())
                owners.discard(owner)
                if not owners:
                    self._owners.pop(key, None)
                    if self._shards.pop(key, None) is not None:
                        self.closed += 1

    def __len__(self) -> int:
        return len(self._shards)

    def _open(self, path: Path, number: int, regions: int | None) -> ShardReader:
        try:
            return ShardReader(path, number, regions)
        except StoreError as error:
            if not _is_out_of_files(error):
                raise
        self._shrink(len(self._shards) // 2)  # the rest of the program needs more than expected
        try:
            return ShardReader(path, number, regions)
        except StoreError as error:
            if not _is_out_of_files(error):
                raise
            raise StoreError(
                f"{path} cannot be opened, because too many files are open; raise the limit with "
                "'ulimit -n'"
            ) from error

    def _shrink(self, count: int) -> None:
        """Close the least recently used shards beyond `count`."""
        surplus = len(self._shards) - count
        if surplus > 0:
            for key in heapq.nsmallest(surplus, self._shards, lambda key: self._shards[key].used):
                del self._shards[key]
            self.closed += surplus


_CACHE = _ShardCache()


class OpenShards:
    """Opens the shards of an index when they are needed; threads may share it.

    All indexes of a process together keep at most half of the files open that the system allows.

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
        self._folder = (catalog.directory / "shards").absolute()
        self._keys: dict[int, _FileKey] = {}
        # A query asks for each shard several times. As long as none has been closed, the cache need
        # not be asked; replaced, never emptied, because threads share it.
        self._known: tuple[int, dict[int, _OpenShard]] = (0, {})
        weakref.finalize(self, _release_all, id(self), self._keys)
        self.refresh()

    def refresh(self) -> None:
        """Read again which shards there are; open ones stay valid, as numbers are never reused."""
        with self._catalog.reading():
            self.files = self._catalog.shard_files()
            self.regions = self._catalog.shard_regions()
        dropped = [number for number in list(self._keys) if number not in self.files]
        self._known = (_CACHE.closed, {})
        _CACHE.release(id(self), [self._keys.pop(number) for number in dropped])

    def close(self) -> None:
        """Release all shards."""
        self._known = (_CACHE.closed, {})
        _release_all(id(self), self._keys)

    def get(self, number: int) -> ShardReader:
        """Return the reader of a shard.

        Raises
        ------
        StoreError
            If the shard is missing or damaged, or too many files are open.
        """
        closed, known = self._known
        if closed == _CACHE.closed:
            if (shard := known.get(number)) is not None:
                return shard.use()
        else:
            self._known = closed, known = _CACHE.closed, {}
        if number not in self.files:
            raise StoreError(
                f"shard {number} of {self._catalog.directory} no longer exists, because the index "
                "was compacted meanwhile; try again"
            )
        key = self._keys.get(number)
        if key is None:
            key = self._keys[number] = _file_key(self._folder / self.files[number])
        try:
            shard = _CACHE.get(id(self), key, number, self.regions.get(number))
        except StoreError:
            self._keys.pop(number, None)  # a repair may replace the file
            raise
        if closed == _CACHE.closed:
            known[number] = shard
        return shard.use()


def _release_all(owner: int, keys: dict[int, _FileKey]) -> None:
    _CACHE.release(owner, keys.values())
    keys.clear()


def _file_key(path: Path) -> _FileKey:
    try:
        status = path.stat()
    except OSError:  # opening it reports the reason
        return (str(path), 0, 0, 0, 0)
    return (str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _is_out_of_files(error: StoreError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)


def max_open_shards() -> int:
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
