"""Files of an index: reading only regular ones, and writing them in one step."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..core.errors import StoreError

__all__ = [
    "as_store_error",
    "atomic_create",
    "atomic_path",
    "atomic_write_bytes",
    "file_checksum",
    "folder_size",
    "is_plain",
    "is_regular",
    "is_temporary",
    "open_regular",
    "sync_folder",
    "temporary_path",
]

_TEMPORARY = re.compile(
    r"\.rg-.+\.\d+\.partial(-journal)?"
    # before the prefix "rg-"
    r"|\.(\d{6,}\.h5|vectors(\.faiss)?|\.writer\.json|catalog\.sqlite)(\.\d+)?\.partial"
)


def temporary_path(path: Path) -> Path:
    """Return the temporary name beside `path` under which this process writes it."""
    return path.with_name(f".rg-{path.name.lstrip('.')}.{os.getpid()}.partial")


def is_temporary(name: str) -> bool:
    """Return whether a file name is one that :func:`temporary_path` makes, or once made."""
    return _TEMPORARY.fullmatch(name) is not None


_NOT_REGULAR = (errno.ELOOP, errno.EMLINK, errno.ENXIO)
"""What opening a link (EMLINK on FreeBSD) or a socket fails with."""

_NO_HARD_LINKS = (errno.EPERM, errno.EINVAL, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What making a hard link fails with where the file system has none."""


def is_plain(path: Path) -> bool:
    """Return whether there is a regular file at `path`; a link is none, whatever it points to."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_regular(path: Path) -> bool:
    """Return whether a regular file of an index exists; False if there is nothing at `path`.

    Raises
    ------
    StoreError
        If there is a link, a folder, a pipe, a socket or a device, which an index never has.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISREG(mode):
        raise _not_regular(path)
    return True


def open_regular(path: Path) -> BinaryIO:
    """Open a file of an index for reading, without following a link or waiting for a pipe.

    Raises
    ------
    StoreError
        If it is not a regular file.
    OSError
        If it does not exist or cannot be opened.
    """
    is_regular(path)  # opening a device may do something
    flags = os.O_RDONLY
    for name in ("O_BINARY", "O_NONBLOCK", "O_NOFOLLOW"):  # no system has all three
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in _NOT_REGULAR:
            raise _not_regular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return os.fdopen(descriptor, "rb")


def _not_regular(path: Path) -> StoreError:
    return StoreError(
        f"{path} is a link, a folder or a special file, but an index has only regular files there; "
        "delete it or put the file itself there"
    )


@contextlib.contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it.

    If the block raises, the temporary file is removed and `path` stays as it was. A file that need
    not survive a power failure is not flushed.
    """
    with _temporary_beside(path) as temporary:
        yield temporary
        if durable:
            _flush(temporary)
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)


def atomic_write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path` in one step; see :func:`atomic_path`."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(data)


def atomic_create(path: Path, data: bytes) -> None:
    """Write `data` to a new file in one step; never replace one.

    Raises
    ------
    StoreError
        If there is something at `path` already.
    """
    with _temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        _flush(temporary)
        try:
            os.link(temporary, path)  # unlike a rename, fails if there is a file
        except OSError as error:
            if os.path.lexists(path):
                raise StoreError(
                    f"{path} exists, but the catalog does not list it, so another process may be "
                    "writing to the index; if there is none, move that file away"
                ) from error
            if error.errno not in _NO_HARD_LINKS:
                raise
            temporary.replace(path)
        sync_folder(path.parent)


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    """Yield the path of a new, empty file in the folder of `path`, which is deleted afterwards."""
    temporary = temporary_path(path)
    try:
        temporary.unlink(missing_ok=True)  # a link of that name would be followed
        temporary.touch(exist_ok=False)
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # the next build deletes it, and the first error counts
            temporary.unlink()


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def file_checksum(source: Path | BinaryIO) -> str:
    """Return the BLAKE2b-128 checksum of a file, as the catalog stores it for every shard."""
    if isinstance(source, Path):
        with open_regular(source) as file:
            return file_checksum(file)
    digest = hashlib.blake2b(digest_size=16)
    while block := source.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def folder_size(folder: Path) -> int:
    """Return the total bytes of all files below a folder, even while a writer changes them."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


@contextlib.contextmanager
def as_store_error(path: Path) -> Iterator[None]:
    """Raise :class:`StoreError` if the block fails to write `path`, a part of an index."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror or error}); everything committed so far "
            "is safe, so run the command again to continue"
        ) from error


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, so that a rename survives a power failure."""
    if os.name == "nt":  # Windows cannot open folders; its rename is journaled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
