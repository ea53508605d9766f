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
from ..core.strict_json import parse_json
from .files import as_store_error, atomic_write_bytes, is_regular, open_regular

__all__ = ["WriterLock", "writer_lock"]

_MAX_CLAIM_BYTES = 4096
_MAX_NAME = 255


class WriterLock:
    """The exclusive right to write to an index, as long as its file is the one that is locked.

    Deleting or replacing the file would let a second writer in, so writers call :meth:`check`
    before everything that others can see.

    Parameters
    ----------
    path : Path
        The locked file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = self._identify()  # stays unique, because the locked file is open

    @property
    def intact(self) -> bool:
        """Whether the file is the one that was locked."""
        return self._identity is not None and self._identify() == self._identity

    def check(self) -> None:
        """Refuse to write if the file has been deleted or replaced.

        Raises
        ------
        StoreError
            If a second writer may have been let in.
        """
        if not self.intact:
            raise StoreError(
                f"the lock {self._path} was deleted or replaced, so another process may be writing "
                "to the index; nothing more was committed, so run the command again"
            )

    def _identify(self) -> tuple[int, int] | None:
        try:
            status = self._path.lstat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


@contextlib.contextmanager
def writer_lock(directory: Path) -> Iterator[WriterLock]:
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
    path = directory / ".writer.lock"
    is_regular(path)  # locking opens the file, and would follow a link
    lock = FileLock(path)
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
    held = WriterLock(path)
    try:
        started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        claim = {"process": os.getpid(), "host": socket.gethostname(), "started": started}
        with as_store_error(holder):
            atomic_write_bytes(holder, json.dumps(claim).encode())
        yield held
    finally:
        if held.intact:  # else the note is another writer's
            with contextlib.suppress(OSError):  # only information; the lock itself is separate
                holder.unlink()
        lock.release()


def _describe(holder: Path) -> str:
    """Return who holds the lock, as far as the note beside it can be believed."""
    try:
        with open_regular(holder) as file:
            claim = parse_json(file.read(_MAX_CLAIM_BYTES))
        process, host, started = claim["process"], claim["host"], claim["started"]
    except (OSError, StoreError, ValueError, LookupError, TypeError):
        return "another process"  # the note is not written yet, or is not one
    texts = all(
        isinstance(text, str) and text.isprintable() and len(text) <= _MAX_NAME
        for text in (host, started)
    )
    if type(process) is not int or not texts:
        return "another process"
    return f"process {process} on {host} since {started}"
