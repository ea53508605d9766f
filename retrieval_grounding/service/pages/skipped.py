"""Pictures of files that are not in an index, as far as they can be decoded."""

from __future__ import annotations

import contextlib
import hashlib

from ...core.addresses import is_url
from ...core.errors import GroundingError
from ...core.reports import SkippedFile
from ...data.reading import read_address
from ..cache import BytesCache
from ..decoding import as_jpeg
from ..state import ServiceState

__all__ = ["SkippedPictures"]

_CACHE_BYTES = 8 << 20
_MAX_FILE = 32 << 20
_SIDE = 480


class SkippedPictures:
    """Makes the pictures, and remembers of which files there are none.

    A client names them by a key that it got from a page; the paths are those of the catalog.
    """

    def __init__(self) -> None:
        self._made: BytesCache[tuple[str, str]] = BytesCache(_CACHE_BYTES)

    def key(self, service: ServiceState, index: str, file: SkippedFile) -> str:
        """Return the key of a file's picture; empty if there is none. Runs where images decode."""
        text = f"{file.path}\0{file.size}\0{file.mtime_ns}"
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        made = self._made.get((index, key))
        if made is None:
            made = b""
            if not is_url(file.path) and file.size <= _MAX_FILE:
                with contextlib.suppress(GroundingError, OSError, ValueError):
                    made = as_jpeg(service.decoding.decode(read_address(file.path)), _SIDE)
            self._made.put((index, key), made)
        return key if made else ""

    def known(self, index: str, key: str) -> bytes | None:
        """Return a picture that a page has shown."""
        return self._made.get((index, key)) or None
