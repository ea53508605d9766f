"""Bytes by key, of which the least recently used are dropped."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["BytesCache"]

Key = TypeVar("Key", bound=Hashable)


class BytesCache(Generic[Key]):
    """Keeps values up to a size in total; threads may share it.

    Parameters
    ----------
    size : int
        Bytes of all values together.

    Examples
    --------
    >>> cache = BytesCache(5)
    >>> cache.put("a", b"123"); cache.put("b", b"45"); cache.get("a")
    b'123'
    >>> cache.put("c", b"6"); cache.get("b") is None
    True
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, bytes] = OrderedDict()

    def get(self, key: Key) -> bytes | None:
        """Return a value, or None if it has been dropped."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: Key, value: bytes) -> None:
        """Keep a value, and drop others if there is no room; one that is too large is not kept."""
        if len(value) > self._size:
            return
        with self._lock:
            self._used += len(value) - len(self._values.pop(key, b""))
            self._values[key] = value
            while self._used > self._size:
                self._used -= len(self._values.popitem(last=False)[1])
