"""Where an image is, as one text: a path, a member of an archive, a URL or a content hash.

================================== ==============================================================
``/photos/a.jpg``                  a file, by its absolute path
``/shards/0.tar/train/a.jpg``      a member of an archive, as if the archive were a folder
``https://example.org/a.jpg``      a URL
``content:HASH``                   an image that was given as bytes or pixels and has no place
================================== ==============================================================

A regular file has nothing below it, so the path of a member never is that of a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from .paths import absolute_path
from .types import PathLike

__all__ = [
    "ARCHIVE_SUFFIXES",
    "absolute_address",
    "archives_above",
    "content_address",
    "is_path",
    "is_url",
    "link_to",
    "split_member",
]


ARCHIVE_SUFFIXES = (".zip", ".cbz", ".tar")
"""Suffixes, in lower case, of the archives whose members can be addressed."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:// is a drive
_LINKED = re.compile(r"https?://[!#-;=?-Z\[\]_a-z~%]+", re.IGNORECASE)
_CONTENT = "content:"
_INSIDE = re.compile(r"\.(?:zip|cbz|tar)(?=[/\\].)", re.IGNORECASE)


def is_url(address: str) -> bool:
    """Return whether an address is a URL.

    Examples
    --------
    >>> is_url("https://example.org/a.jpg"), is_url("C://a.jpg"), is_url("/photos/a.jpg")
    (True, False, False)
    """
    return _URL.match(address) is not None


def is_path(address: str) -> bool:
    """Return whether an address is the path of a file or of a member of an archive."""
    return not (address.startswith(_CONTENT) or is_url(address))


def content_address(content_hash: str) -> str:
    """Return the address of an image of which only the content is known."""
    return _CONTENT + content_hash


def absolute_address(address: PathLike) -> str:
    """Return a path as :func:`absolute_path` does, and any other address as it is."""
    text = os.fspath(address)
    return absolute_path(text) if is_path(text) else text


def archives_above(path: str) -> Iterator[str]:
    """Yield what may be the archive whose member has this path, by names alone.

    Examples
    --------
    >>> list(archives_above("/shards/0.tar/a.zip/b.jpg"))
    ['/shards/0.tar', '/shards/0.tar/a.zip']
    >>> list(archives_above("/shards/0.tar"))
    []
    """
    for match in _INSIDE.finditer(path):
        yield path[: match.end()]


def split_member(path: str) -> tuple[str, str] | None:
    """Return the archive, which exists, and the name of its member; None if this is neither."""
    for archive in archives_above(path):
        if os.path.isfile(archive):  # noqa: PTH113
            return archive, path[len(archive) + 1 :].replace(os.sep, "/")
    return None


def link_to(address: str) -> str:
    """Return the URL that leads to an image: its own, that of its file, or of its archive.

    It is empty where nothing leads there. No scheme but ``http``, ``https`` and ``file`` is linked,
    and no URL with characters that URLs do not have, since an index may come from a stranger.

    Examples
    --------
    >>> link_to("https://example.org/a.jpg"), link_to("javascript://x"), link_to("content:00")
    ('https://example.org/a.jpg', '', '')
    """
    if is_url(address):
        return address if _LINKED.fullmatch(address) else ""
    if not is_path(address) or not os.path.isabs(address):  # noqa: PTH117
        return ""
    member = split_member(address)
    return Path(address if member is None else member[0]).as_uri()
