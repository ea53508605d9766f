"""The writer's lock: one writer at a time, and an error that names it."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..core.errors import GroundingError, StoreError, StoreLockedError
from .files import as_store_error, atomic_write_bytes

__all__ = ["writer_lock"]

_POLL_SECONDS = 0.05

_holders: dict[tuple[int, str], int] = {}
"""Threads that hold a lock, by process and folder; a forked child holds none."""


@contextlib.contextmanager
def writer_lock(directory: Path, timeout: float = 0.0) -> Iterator[None]:
    """Hold the exclusive right to write to the index in `directory`.

    The operating system releases the lock when the process ends, so a killed process never blocks
    the next writer.

    Parameters
    ----------
    directory : Path
        Folder of the index.
    timeout : float
        Seconds to wait while a different writer holds the lock; ``math.inf`` waits for as long as
        it takes.

    Raises
    ------
    StoreLockedError
        If a different writer holds the lock until then; the message names it.
    StoreError
        If the folder cannot be written.
    """
    if not timeout >= 0:
        raise GroundingError(f"the time to wait must be at least 0 seconds, not {timeout}")
    holder = directory / ".writer.json"
    key = (os.getpid(), os.path.realpath(directory))
    lock = _acquire(directory, holder, key, timeout)
    _holders[key] = threading.get_ident()
    try:
        started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        claim = {"process": os.getpid(), "host": socket.gethostname(), "started": started}
        with as_store_error(holder):
            atomic_write_bytes(holder, json.dumps(claim).encode())
        yield
    finally:
        with contextlib.suppress(OSError):  # only information; the lock itself is separate
            holder.unlink()
        _holders.pop(key, None)
        lock.release()


def _acquire(directory: Path, holder: Path, key: tuple[int, str], timeout: float) -> FileLock:
    end = time.monotonic() + timeout
    while True:
        mine = _holders.get(key)
        lock = FileLock(directory / ".writer.lock")
        try:
            if mine is None:
                lock.acquire(timeout=0)
                return lock
        except Timeout:
            mine = _holders.get(key)
        except (OSError, NotImplementedError) as error:
            raise StoreError(
                f"{directory} cannot be locked for writing ({getattr(error, 'strerror', error)}); "
                "check its permissions, and that its file system is writable and supports locks"
            ) from error
        # A thread that waited for itself would wait forever.
        if time.monotonic() >= end or mine == threading.get_ident():
            raise StoreLockedError(_describe(directory, holder, mine is not None))
        left = end - time.monotonic()
        time.sleep(_POLL_SECONDS if math.isinf(left) else max(0.0, min(_POLL_SECONDS, left)))


def _describe(directory: Path, holder: Path, by_this_process: bool) -> str:
    advice = "wait until it has finished, or pass --wait SECONDS (in Python, timeout=)"
    if by_this_process:
        who = f"this process, process {os.getpid()} on {socket.gethostname()}"
        return f"{directory} is being written by {who}; {advice}"
    try:
        claim = json.loads(holder.read_text(encoding="utf-8"))
        who = f"process {claim['process']} on {claim['host']} since {claim['started']}"
    except (OSError, ValueError, KeyError, TypeError):  # it is locked, but not yet claimed
        who = "another process"
    return f"{directory} is being written by {who}; {advice}"
