"""Files that a user asks for by name, such as a page or a picture.

They are written as a Unix tool writes its output: through links, to devices and pipes, and with the
mode of the file that they replace. A file of an index is written differently, in ``storage.files``.
"""

from __future__ import annotations

import contextlib
import mimetypes
import os
import secrets
import stat
import sys
from pathlib import Path

from .errors import GroundingError
from .types import PathLike

__all__ = ["check_suffix", "write_output"]


def check_suffix(path: PathLike, kind: str) -> None:
    """Refuse a file name whose suffix stands for something else.

    Parameters
    ----------
    path : path
        The file to write. A suffix that stands for nothing is fine.
    kind : str
        The MIME type of the content.

    Raises
    ------
    GroundingError
        If the suffix stands for a different type.

    Examples
    --------
    >>> check_suffix("page.html", "text/html")
    >>> check_suffix("page.png", "text/html")
    Traceback (most recent call last):
    retrieval_grounding.core.errors.GroundingError: page.png would be a file of the type ...
    """
    # Only the name counts: a path with a scheme or a query would be taken for a URL.
    types = mimetypes.MimeTypes()  # not what the system adds
    found, _ = types.guess_type(f"x{Path(path).suffix}")
    if found is not None and found != kind:
        suffix = types.guess_extension(kind)
        raise GroundingError(
            f"{path} would be a file of the type {found} by its name, and {kind} is written to it; "
            f"use a name that ends in {suffix}"
        )


def write_output(path: PathLike, data: bytes) -> None:
    """Write a file that the user named; if that fails, a file that was there stays as it was.

    Raises
    ------
    GroundingError
        If it cannot be written.
    """
    try:
        _write(Path(path), data)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GroundingError(f"cannot write {path}: {reason}") from error


def _write(path: Path, data: bytes) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        _replace(Path(os.path.realpath(path)), data, None)
        return
    for stream in (sys.stdout, sys.stderr):
        if _is_same(stream, status):  # opening it again would start at its beginning
            stream.flush()
            _write_all(os.dup(stream.fileno()), data)
            return
    if stat.S_ISREG(status.st_mode):
        if not os.access(path, os.W_OK):
            raise PermissionError("the file may not be written")
        _replace(Path(os.path.realpath(path)), data, status)
    else:
        _write_all(os.open(path, os.O_WRONLY), data)


def _is_same(stream: object, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), status)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):  # closed, or replaced by a stream without a file
        return False


def _write_all(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) or 0 :]


def _replace(target: Path, data: bytes, old: os.stat_result | None) -> None:
    """Write beside `target`, then rename."""
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if old is not None:
                with contextlib.suppress(OSError, AttributeError):  # not for everyone, or anywhere
                    os.chown(temporary, old.st_uid, old.st_gid)
                temporary.chmod(stat.S_IMODE(old.st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
