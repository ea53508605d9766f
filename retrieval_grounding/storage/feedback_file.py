"""The file of an index with what people think of its hits: lines that are only ever appended.

It does not belong to the writer of the index: a thumb is stored while a build runs. An entry counts
until a line retracts it. What a killed process has left of its last line is cut off by the next
append; whoever wrote it was never told that it is stored.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from ..core.errors import FeedbackError, StoreError, StoreLockedError
from ..core.feedback import FeedbackEntry
from ..core.fork import ForkSafeLock
from ..core.strict_json import json_text, parse_json
from .files import as_store_error, atomic_write_bytes, is_regular, open_regular, sync_folder

__all__ = ["FEEDBACK_FILE", "FEEDBACK_LOCK", "FeedbackFile", "FeedbackLog", "retraction"]

FEEDBACK_FILE = "feedback.jsonl"
FEEDBACK_LOCK = ".feedback.lock"

_MAX_LINE = 1 << 14
_MAX_BYTES = 1 << 24
_MAX_LINES = 1 << 16
_MAX_DAMAGED = 100
_PATIENCE_SECONDS = 10.0
_ID = re.compile(r"[0-9a-f]{16}")

Line = Mapping[str, Any]


@dataclass(frozen=True)
class FeedbackLog:
    """What a file of feedback says.

    Parameters
    ----------
    entries : mapping of str to FeedbackEntry
        Those that count, by id, oldest first.
    damaged : sequence of (int, str)
        The first hundred lines that cannot be used, from 1, and why.
    unusable : int
        How many there are.
    lines : int
        All lines that are complete.
    """

    entries: Mapping[str, FeedbackEntry] = field(default_factory=dict)
    damaged: Sequence[tuple[int, str]] = ()
    unusable: int = 0
    lines: int = 0


@dataclass
class _Read:
    """How far a file has been read, and what was found."""

    identity: tuple[int, int]
    mtime_ns: int
    end: int
    log: FeedbackLog


class FeedbackFile:
    """``feedback.jsonl`` of an index; threads may share it, and processes append to it.

    Parameters
    ----------
    directory : Path
        Folder of the index.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FEEDBACK_FILE
        self._lock = ForkSafeLock()
        self._read: _Read | None = None

    def state(self) -> object:
        """Return what changes with the file; None if there is none."""
        try:
            status = os.stat(self.path, follow_symlinks=False)  # noqa: PTH116 - for every query
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def read(self) -> FeedbackLog:
        """Return what the file says now; only what is new is read.

        Raises
        ------
        StoreError
            If it is not a regular file, too large, or cannot be read.
        """
        with self._lock:
            try:
                with open_regular(self.path) as file:
                    return self._follow(file)
            except FileNotFoundError:
                self._read = None
                return FeedbackLog()
            except OSError as error:
                raise StoreError(f"{self.path} cannot be read: {error.strerror}") from error

    def append(self, make: Callable[[FeedbackLog], Sequence[Line]]) -> None:
        """Append lines, which are on disk when this returns.

        Parameters
        ----------
        make : callable
            Returns the lines, given what the file says; nobody else appends meanwhile.

        Raises
        ------
        StoreError
            If the folder cannot be written, or the file is full or not a regular file.
        """
        lock = FileLock(self.path.with_name(FEEDBACK_LOCK))
        is_regular(Path(lock.lock_file))  # locking opens the file, and would follow a link
        try:
            lock.acquire(timeout=_PATIENCE_SECONDS)
        except Timeout as error:
            raise StoreLockedError(f"{self.path} is being written; try again") from error
        except (OSError, NotImplementedError) as error:
            raise StoreError(
                f"{self.path.parent} cannot be written ({getattr(error, 'strerror', error)}), so "
                "feedback cannot be stored; check its permissions"
            ) from error
        try:
            data = b"".join(_encoded(line) for line in make(self.read()))
            self._write(data)
        finally:
            lock.release()

    def replace(self, lines: Sequence[bytes]) -> None:
        """Write the file anew with some of its lines, for a repair."""
        with as_store_error(self.path):
            atomic_write_bytes(self.path, b"".join(line + b"\n" for line in lines))

    def intact_lines(self) -> list[bytes]:
        """Return the lines that can be used, retracted entries and retractions included."""
        self.read()  # refuses a file that is too large
        kept, entries = [], dict[str, FeedbackEntry]()
        with open_regular(self.path) as file:
            for line in _complete_lines(file, _MAX_LINES):
                with contextlib.suppress(FeedbackError, ValueError):
                    _apply(_parsed(line), entries)
                    kept.append(line)
        return kept

    def _write(self, data: bytes) -> None:
        end = 0 if self._read is None else self._read.end
        lines = (0 if self._read is None else self._read.log.lines) + data.count(b"\n")
        if end + len(data) > _MAX_BYTES or lines > _MAX_LINES:
            raise StoreError(f"{self.path} is full; train with --refs feedback, and move it away")
        with as_store_error(self.path):
            is_new = not is_regular(self.path)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(self.path, flags | getattr(os, "O_BINARY", 0), 0o666)
            with os.fdopen(descriptor, "r+b") as file:
                file.truncate(end)  # the rest is what a killed process has left of a line
                file.seek(end)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                sync_folder(self.path.parent)

    def _follow(self, file: BinaryIO) -> FeedbackLog:
        status = os.fstat(file.fileno())
        identity = (status.st_dev, status.st_ino)
        known = self._read
        if known is not None and known.identity == identity:
            if (status.st_size, status.st_mtime_ns) == (known.end, known.mtime_ns):
                return known.log
            if status.st_size <= known.end:  # it was changed by somebody else
                known = None
        else:
            known = None
        if status.st_size > _MAX_BYTES:
            raise StoreError(f"{self.path} is larger than {_MAX_BYTES >> 20} MiB; move it away")
        start, log = (known.end, known.log) if known is not None else (0, FeedbackLog())
        file.seek(start)
        lines = list(_complete_lines(file, _MAX_LINES - log.lines + 1))
        if log.lines + len(lines) > _MAX_LINES:
            raise StoreError(f"{self.path} has more than {_MAX_LINES:,} lines; move it away")
        if lines:
            log = _extended(log, lines)
        end = start + sum(len(line) + 1 for line in lines)
        self._read = _Read(identity, status.st_mtime_ns, end, log)
        return log


def retraction(entry_id: str, line_id: str, time: str) -> Line:
    """Return the line that lets an entry no longer count."""
    return {"retracts": entry_id, "id": line_id, "time": time, "source": "feedback"}


def _encoded(line: Line) -> bytes:
    text = json_text(dict(line) | {"checksum": _checksum(line)}, ensure_ascii=False)
    try:
        data = text.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise FeedbackError("the path of the image is not UTF-8") from error
    if len(data) > _MAX_LINE:
        raise FeedbackError("the phrase and the path of the image are too long to be stored")
    return data


def _checksum(line: Line) -> str:
    text = json_text(dict(line), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _extended(log: FeedbackLog, lines: Sequence[bytes]) -> FeedbackLog:
    entries, damaged, unusable = dict(log.entries), list(log.damaged), log.unusable
    for number, line in enumerate(lines, log.lines + 1):
        try:
            _apply(_parsed(line), entries)
        except (FeedbackError, ValueError) as error:
            unusable += 1
            damaged += [(number, str(error))] if unusable <= _MAX_DAMAGED else []
    return FeedbackLog(entries, damaged, unusable, log.lines + len(lines))


def _complete_lines(file: BinaryIO, most: int) -> Iterator[bytes]:
    """Yield lines without their ends, up to a number of them; not half a line at the end."""
    for line in itertools.islice(file, most):
        if line.endswith(b"\n"):
            yield line[:-1]


def _parsed(line: bytes) -> dict[str, Any]:
    if len(line) >= _MAX_LINE:
        raise FeedbackError("it is too long")
    value = parse_json(line.decode("utf-8"))
    if not isinstance(value, dict):
        raise FeedbackError("it is not a JSON object")
    checksum = value.pop("checksum", None)
    if checksum is not None and checksum != _checksum(value):
        raise FeedbackError("its checksum differs")
    return value


def _apply(value: dict[str, Any], entries: dict[str, FeedbackEntry]) -> None:
    if "retracts" not in value:
        entry = FeedbackEntry.from_dict(value)
        if entry.id in entries:
            raise FeedbackError(f"its id {entry.id} is that of an earlier line")
        entries[entry.id] = entry
        return
    gone = value["retracts"]
    if not isinstance(gone, str) or not _ID.fullmatch(gone):
        raise FeedbackError("what it retracts has no id")
    entries.pop(gone, None)  # a merge of two files may retract twice
