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
from typing import NamedTuple

from filelock import FileLock, Timeout

from ..core.errors import GroundingError, StoreError, StoreLockedError
from ..core.strict_json import parse_json
from .files import as_store_error, atomic_write_bytes, is_regular, open_regular

__all__ = ["Writer", "WriterLock", "current_writer", "writer_lock"]

LOCK_FILE = ".writer.lock"

_POLL_SECONDS = 0.05
_MAX_CLAIM_BYTES = 4096
_MAX_NAME = 255

_holders: dict[tuple[int, str], int] = {}
"""Threads that hold a lock, by process and folder; a forked child holds none."""


class Writer(NamedTuple):
    """A process that writes to an index, by its own account.

    Parameters
    ----------
    process : int
        Its number.
    host : str
        The machine it runs on.
    started : str
        When, in UTC: ``2026-05-31T18:30:00+00:00``.
    """

    process: int
    host: str
    started: str


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
def writer_lock(directory: Path, timeout: float = 0.0) -> Iterator[WriterLock]:
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
        If the folder cannot be written, or something else is in the place of the lock.
    """
    if not timeout >= 0:
        raise GroundingError(f"the time to wait must be at least 0 seconds, not {timeout}")
    holder = directory / ".writer.json"
    key = (os.getpid(), os.path.realpath(directory))
    lock = _acquire(directory, holder, key, timeout)
    _holders[key] = threading.get_ident()
    held = WriterLock(directory / LOCK_FILE)
    try:
        started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        claim = {"process": os.getpid(), "host": socket.gethostname(), "started": started}
        with as_store_error(holder):
            # After a power failure, nobody holds the lock that the note is about.
            atomic_write_bytes(holder, json.dumps(claim).encode(), durable=False)
        yield held
    finally:
        if held.intact:  # else the note is another writer's
            with contextlib.suppress(OSError):  # only information; the lock itself is separate
                holder.unlink()
        _holders.pop(key, None)
        lock.release()


def _acquire(directory: Path, holder: Path, key: tuple[int, str], timeout: float) -> FileLock:
    end = time.monotonic() + timeout
    path = directory / LOCK_FILE
    while True:
        is_regular(path)  # locking opens the file, and would follow a link
        mine = _holders.get(key)
        lock = FileLock(path)
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
    claim = _read_claim(holder)
    who = "another process"
    if claim is not None:
        who = f"process {claim.process} on {claim.host} since {claim.started}"
    return f"{directory} is being written by {who}; {advice}"


def current_writer(directory: Path) -> Writer | None:
    """Return who writes to an index now, without taking the lock; None if nobody does.

    It is what the writer's note says, so it is for people, not for deciding who may write.
    """
    import psutil  # writers and readers need none of it

    claim = _read_claim(directory / ".writer.json")
    here = claim is not None and claim.host == socket.gethostname()
    if claim is None or (here and not psutil.pid_exists(claim.process)):
        return None  # a note that a killed process left
    return claim


def _read_claim(holder: Path) -> Writer | None:
    """Return who holds the lock, if the note beside it is one; it may not be written yet."""
    try:
        with open_regular(holder) as file:
            claim = parse_json(file.read(_MAX_CLAIM_BYTES))
        process, host, started = claim["process"], claim["host"], claim["started"]
    except (OSError, StoreError, ValueError, LookupError, TypeError):
        return None
    texts = all(
        isinstance(text, str) and text.isprintable() and len(text) <= _MAX_NAME
        for text in (host, started)
    )
    is_process = type(process) is int and 0 < process < 1 << 31
    return Writer(process, host, started) if is_process and texts else None
