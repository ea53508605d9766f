"""Reading the bytes behind an address: a file, a member of an archive or a URL."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ..core.addresses import archives_above, is_path, is_url, split_member
from ..core.errors import GroundingError, ImageError
from ..core.paths import is_gone

__all__ = ["MAX_BYTES", "presence", "read_address", "size_and_time"]


MAX_BYTES = 1 << 29
"""Files with more bytes are refused as ``too-large`` before reading."""

_UNKNOWN = (-1, -1)


def read_address(address: str, stopping: Callable[[], bool] = lambda: False) -> bytes:
    """Return the bytes of an image.

    Parameters
    ----------
    address : str
        See :mod:`retrieval_grounding.core.addresses`.
    stopping : callable
        Ends the transfer from a URL once it returns True.

    Raises
    ------
    ImageError
        With a reason: ``missing``, ``unreadable``, ``not-a-file``, ``too-large``,
        ``out-of-memory``; those of archives, and ``url-refused`` and ``url-not-supported``.
    """
    if is_url(address):
        from .remote import read_url  # not needed by most

        return read_url(address, MAX_BYTES, stopping)
    if not is_path(address):
        raise ImageError("missing", f"{address} was added without a file or URL to read it from")
    if member := split_member(address):
        from .archives import open_archive

        archive, name = member
        return open_archive(archive).read(name, MAX_BYTES)
    return _read_file(address)


def _read_file(path: str) -> bytes:
    file = Path(path)
    try:
        if file.is_dir() or (file.exists() and not file.is_file()):
            raise ImageError("not-a-file", f"{file} is not a regular file")
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise ImageError("too-large", f"the file has {size:,} bytes, more than {MAX_BYTES:,}")
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("missing", f"{file} does not exist") from error
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # not the fault of this file
            raise GroundingError(
                f"{file} cannot be read, because too many files are open; raise the limit with "
                "'ulimit -n' or close other programs"
            ) from error
        raise ImageError("unreadable", f"{file} cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise ImageError("out-of-memory", f"{file} does not fit into memory") from error


def size_and_time(address: str) -> tuple[int, int]:
    """Return size and mtime_ns of a file, or -1 and -1 if they cannot be read.

    A member of an archive has its own size and the time of the archive.
    """
    try:
        status = os.stat(address)  # noqa: PTH116 - much faster, and called for every file
    except OSError:
        return _member_state(address)
    return (status.st_size, status.st_mtime_ns)


def _member_state(address: str) -> tuple[int, int]:
    if not is_path(address) or (found := split_member(address)) is None:
        return _UNKNOWN
    from .archives import open_archive

    try:
        archive = open_archive(found[0])
    except ImageError:
        return _UNKNOWN
    member = archive.members.get(found[1])
    return _UNKNOWN if member is None else (member.size, archive.mtime_ns)


def presence(address: str) -> Literal["there", "gone", "unknown"]:
    """Return whether there is something at an address.

    It is gone only if the system, or a whole list of an archive, says so: no permission, a stale
    network folder or a damaged archive prove nothing. URLs are not asked.
    """
    if not is_path(address):
        return "unknown"
    if any(archives_above(address)) and (found := split_member(address)):
        return _presence_in(*found)
    if is_gone(address):
        return "gone"
    return "there" if os.path.lexists(address) else "unknown"


def _presence_in(path: str, name: str) -> Literal["there", "gone", "unknown"]:
    from .archives import open_archive

    try:
        archive = open_archive(path)
    except ImageError:
        return "unknown"
    if name in archive.members or name in archive.unusable:
        return "there"
    return "unknown" if archive.damage else "gone"
