"""What the catalog's tables hold, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..core.types import RowKey

__all__ = ["ImageRow", "KnownFile", "LiveRow", "NewShard", "StoredImage", "StoredRow"]


class StoredImage(NamedTuple):
    """A file of the collection, and the row of a shard that has its regions."""

    path: str
    size: int
    mtime_ns: int
    shard: int
    row: int


class KnownFile(NamedTuple):
    """A file as it was when it was indexed, and where its regions lie."""

    size: int
    mtime_ns: int
    shard: int
    row: int

    @property
    def place(self) -> RowKey:
        """Shard and row."""
        return self.shard, self.row


class StoredRow(NamedTuple):
    """What the catalog knows of a row of a shard; it is the same for all files of that content."""

    content_hash: str
    width: int
    height: int
    regions: int
    checksum: str


class LiveRow(NamedTuple):
    """A row of a shard as the catalog has it."""

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
    """A shard whose file is complete and that is to be committed.

    Parameters
    ----------
    number : int
        From ``Catalog.next_shard``.
    file : str
        Name of the file in the folder ``shards``.
    checksum : str
        Of the file.
    rows : sequence of StoredRow
        In the order of the shard.
    """

    number: int
    file: str
    checksum: str
    rows: Sequence[StoredRow]


@dataclass(frozen=True)
class ImageRow:
    """An image and its place, row `row` of shard `shard`; the hash of what was indexed there."""

    path: str
    width: int
    height: int
    shard: int
    row: int
    content_hash: str
