"""Reading lists of paths and URLs, as editors, ``find -print0`` and PowerShell write them."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from ..core.addresses import is_url
from ..core.errors import SourceError
from ..core.paths import absolute_path, existing_path

__all__ = ["read_list"]

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_list(path: str) -> list[str]:
    """Return the absolute paths in a list, in the Unicode form in which they exist, and its URLs.

    One on each line, or NUL between them; relative paths start at the folder of the list.
    Bytes that are not UTF-8 are kept as in the names of files.

    Raises
    ------
    SourceError
        If the list cannot be read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"the list {path!r} cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise SourceError(f"the list {path!r} does not fit into memory") from error
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            text = data.decode(encoding, "replace").lstrip("\ufeff")
            break
    else:
        text = os.fsdecode(data) if os.name != "nt" else data.decode("utf-8", "replace")
    lines = text.split("\0") if "\0" in text else [line.rstrip("\r") for line in text.split("\n")]
    folder = str(Path(path).parent)
    return [_entry(line, folder) for line in lines if line.strip()]


def _entry(line: str, folder: str) -> str:
    """Return the path that a line names; blanks around it count only if such a file exists."""
    if is_url(line.strip()):
        return line.strip()
    path = absolute_path(line, folder)
    found = existing_path(path)
    if found is None and line != line.strip():
        path = absolute_path(line.strip(), folder)
        found = existing_path(path)
    return found or path
