"""Rows of the catalog's tables as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..core.types import RowKey

__all__ = [
    "MAX_SIDE",
    "ImageRow",
    "KnownFile",
    "LiveRow",
    "NewShard",
    "StoredImage",
    "StoredRow",
]


MAX_SIDE = 1 << 28
"""The longest side of an image in pixels; larger ones are not decoded."""


class StoredImage(NamedTuple):
    """A file of the collection, and the shard row that holds its regions."""

    path: str
    size: int
    mtime_ns: int
    shard: int
    row: int


class KnownFile(NamedTuple):
    """A file as it was when it was indexed, and the shard row that holds its regions."""

    size: int
    mtime_ns: int
    shard: int
    row: int

    @property
    def key(self) -> RowKey:
        """Shard and row."""
        return self.shard, self.row


class StoredRow(NamedTuple):
    """What the catalog stores about a new shard row, which all files of one content share."""

    content_hash: str
    width: int
    height: int
    regions: int
    checksum: str


class LiveRow(NamedTuple):
    """A shard row that images use, as the catalog describes it."""

    shard: int
    row: int
    content_hash: str
    width: int
    height: int
    first_region: int
    regions: int
    checksum: str


@dataclass(frozen=True)
class NewShard:
    """A shard to commit, whose file is complete.

    Parameters
    ----------
    number : int
        From :meth:`Catalog.next_shard`.
    file : str
        Name of its file in the folder ``shards``.
    checksum : str
        BLAKE2b-128 of the file.
    rows : sequence of StoredRow
        In the order of the file.
    """

    number: int
    file: str
    checksum: str
    rows: Sequence[StoredRow]


@dataclass(frozen=True)
class ImageRow:
    """An image, the shard row that holds its regions, and the hash of the indexed content."""

    path: str
    width: int
    height: int
    shard: int
    row: int
    content_hash: str
