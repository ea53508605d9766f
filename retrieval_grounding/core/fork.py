"""What a forked child needs anew: locks that nobody will release, and thread pools without threads.

A fork copies one thread. A lock that a different thread held stays locked in the child, and the
OpenMP pools of PyTorch and FAISS wait there for threads that do not exist.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["ForkSafeLock", "HeldOverForks", "renew_after_fork"]

_LONGEST_WAIT_SECONDS = 10.0

_renewals: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()
_held_over_forks: weakref.WeakSet[HeldOverForks] = weakref.WeakSet()
_acquired: list[HeldOverForks] = []


def renew_after_fork(owner: Any, renew: Callable[[Any], None]) -> None:
    """Call ``renew(owner)`` in every forked child, as long as `owner` exists."""
    _renewals[owner] = renew


class ForkSafeLock:
    """A reentrant lock that is free in a forked child, whoever held it.

    What it protects must be usable, or be renewed, at any moment.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        renew_after_fork(self, ForkSafeLock._renew)

    def _renew(self) -> None:
        if self._lock.acquire(blocking=False):  # free, or held by the thread that forked
            self._lock.release()
        else:
            self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()


class HeldOverForks(ForkSafeLock):
    """A reentrant lock that a fork waits for, so that no child begins in the middle of its block.

    The blocks must be short. After ten seconds, the fork happens anyway.
    """

    def __init__(self) -> None:
        super().__init__()
        _held_over_forks.add(self)

    def acquire_for_fork(self) -> bool:
        """Wait for the lock; return whether it is held now."""
        return self._lock.acquire(timeout=_LONGEST_WAIT_SECONDS)

    def release_after_fork(self) -> None:
        """Release what :meth:`acquire_for_fork` acquired."""
        self._lock.release()


def _before() -> None:
    _acquired.extend(lock for lock in list(_held_over_forks) if lock.acquire_for_fork())


def _release() -> None:
    while _acquired:
        _acquired.pop().release_after_fork()


def _in_child() -> None:
    _release()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(1)
    for owner, renew in list(_renewals.items()):
        renew(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_release, after_in_child=_in_child)
