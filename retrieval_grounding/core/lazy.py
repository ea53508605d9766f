"""Values that are computed when they are first needed, once for all threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from .fork import ForkSafeLock

__all__ = ["Lazy"]

T = TypeVar("T")


class Lazy(Generic[T]):
    """A value that a function computes on first use.

    Unlike `functools.cached_property`, which has no lock since Python 3.12, the function runs once
    even if several threads ask at the same time. If it raises, the next caller tries again.

    Parameters
    ----------
    factory : callable
        Computes the value.

    Examples
    --------
    >>> squares = Lazy(lambda: [n * n for n in range(4)])
    >>> squares.get()
    [0, 1, 4, 9]
    >>> squares.get() is squares.get()
    True
    """

    def __init__(self, factory: Callable[[], T]) -> None:
        self._factory = factory
        self._lock = ForkSafeLock()
        self._values: list[T] = []  # one value or none: the value itself may be None

    def get(self) -> T:
        """Return the value, computing it if nobody has."""
        with self._lock:
            if not self._values:
                self._values.append(self._factory())
            return self._values[0]

    def peek(self) -> T | None:
        """Return the value, or None if it has not been computed."""
        with self._lock:
            return self._values[0] if self._values else None

    def set(self, value: T) -> None:
        """Replace the value; the function is no longer called."""
        with self._lock:
            self._values = [value]
