"""The writer's lock: one writer at a time, and an error that names it."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..core.errors import StoreError, StoreLockedError
from .files import as_store_error, atomic_write_bytes

__all__ = ["writer_lock"]


@contextlib.contextmanager
def writer_lock(directory: Path) -> Iterator[None]:
    """Hold the exclusive right to write to the index in `directory`.

    The operating system releases the lock when the process ends, so a killed process never blocks
    the next writer.

    Raises
    ------
    StoreLockedError
        If another process holds the lock; the message names the process.
    StoreError
        If the folder cannot be written.
    """
    lock = FileLock(directory / ".writer.lock")
    holder = directory / ".writer.json"
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StoreLockedError(
            f"{directory} is being written by {_describe(holder)}; wait until it has finished"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise StoreError(
            f"{directory} cannot be locked for writing ({getattr(error, 'strerror', error)}); "
            "check its permissions, and that its file system is writable and supports locks"
        ) from error
    try:
        started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        claim = {"process": os.getpid(), "host": socket.gethostname(), "started": started}
        with as_store_error(holder):
            atomic_write_bytes(holder, json.dumps(claim).encode())
        yield
    finally:
        with contextlib.suppress(OSError):  # only information; the lock itself is separate
            holder.unlink()
        lock.release()


def _describe(holder: Path) -> str:
    try:
        claim = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {claim['process']} on {claim['host']} since {claim['started']}"
    except (OSError, ValueError, KeyError):  # the lock is held, but the note is not written yet
        return "another process"
