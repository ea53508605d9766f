"""Reading images from URLs: HTTP with the standard library, other schemes through fsspec."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import BinaryIO, cast

from ..core.errors import ImageError
from .http import read_http

__all__ = ["read_url"]


_SECONDS = 60.0
_BLOCK = 1 << 20

_SCHEMES = frozenset(
    "s3 s3a gs gcs az abfs abfss adl hf ftp sftp ssh smb webhdfs hdfs oss oci memory".split()
)
"""Schemes that are passed to fsspec; others read files of this machine or run what a URL says."""


def read_url(url: str, limit: int, stopping: Callable[[], bool] = lambda: False) -> bytes:
    """Return the bytes behind a URL.

    Parameters
    ----------
    url : str
        As the user wrote it.
    limit : int
        More bytes are refused, at the latest once this many have arrived.
    stopping : callable
        Ends the transfer once it returns True.

    Raises
    ------
    ImageError
        With reason ``missing``, ``unreadable``, ``too-large``, ``url-refused`` or
        ``url-not-supported``.
    """
    scheme = url.partition("://")[0].lower()
    if scheme in ("http", "https"):
        return read_http(url, limit, stopping)
    if scheme not in _SCHEMES or "::" in url:
        if scheme == "file":
            raise ImageError("url-not-supported", f"write the path itself instead of {url}")
        raise ImageError("url-not-supported", f"images cannot be read from {scheme}://")
    try:
        import fsspec
    except ImportError as error:
        detail = f"{scheme}:// needs fsspec: pip install 'retrieval_grounding[remote]'"
        raise ImageError("url-not-supported", detail) from error
    try:
        with fsspec.open(url, "rb") as file:
            return _read(cast(BinaryIO, file), url, limit, stopping)
    except ImageError:
        raise
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ImageError("missing", f"{url} does not exist") from error
    except ImportError as error:  # says which package to install
        raise ImageError("url-not-supported", str(error)) from error
    except MemoryError as error:
        raise ImageError("out-of-memory", f"{url} does not fit into memory") from error
    except Exception as error:  # each file system has errors of its own
        raise ImageError("unreadable", f"{url} cannot be read: {error}") from error


def _read(file: BinaryIO, url: str, limit: int, stopping: Callable[[], bool]) -> bytes:
    end = time.monotonic() + _SECONDS
    data = bytearray()
    while block := file.read(_BLOCK):
        data += block
        if len(data) > limit:
            raise ImageError("too-large", f"{url} has more than {limit:,} bytes")
        if stopping() or time.monotonic() > end:
            raise ImageError("unreadable", f"{url} took more than {_SECONDS:g} s")
    return bytes(data)
