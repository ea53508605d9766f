"""Atomic writes: a reader sees the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..core.errors import StoreError

__all__ = [
    "as_store_error",
    "atomic_path",
    "atomic_write_bytes",
    "file_checksum",
    "folder_size",
    "is_temporary",
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


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it.

    If the block raises, the temporary file is removed and `path` stays as it was.
    """
    temporary = temporary_path(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # the next build deletes it, and the first error counts
            temporary.unlink()


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` in one step; see :func:`atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def file_checksum(source: Path | BinaryIO) -> str:
    """Return the BLAKE2b-128 checksum of a file, as the catalog stores it for every shard."""
    if isinstance(source, Path):
        with source.open("rb") as file:
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
            total += path.stat().st_size if path.is_file() else 0
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
