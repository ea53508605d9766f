"""The tables of a catalog about shards and their rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from ..core.strict_json import json_text
from ..core.types import RowKey
from .metadata import MetadataTables
from .rows import NewShard

__all__ = ["ShardTables"]

_MAX_SHARD = (1 << 31) - 1  # region ids have 32 bits for it, and are signed
_SHARD_FILE = re.compile(r"[A-Za-z0-9_-]{1,100}\.h5")


class ShardTables(MetadataTables):
    """The tables ``shards`` and ``shard_rows``."""

    def shard_files(self) -> dict[int, str]:
        """Return the file name of every shard, by its number."""
        files = dict(self._database.select((int, str), "SELECT id, file FROM shards ORDER BY id"))
        if not all(0 < number <= _MAX_SHARD for number in files):
            raise self._database.damaged("the number of a shard is out of range")
        if not all(map(_SHARD_FILE.fullmatch, files.values())):
            raise self._database.damaged("the name of a shard's file is not one of an index")
        return files

    def shard_checksums(self) -> dict[int, str]:
        """Return the checksum of every shard's file, by its number."""
        query = "SELECT id, checksum FROM shards ORDER BY id"
        return dict(self._database.select((int, str), query))

    def shard_regions(self) -> dict[int, int]:
        """Return how many regions every shard stores, used or not, by its number."""
        query = "SELECT id, regions FROM shards ORDER BY id"
        return dict(self._database.select((int, int), query))

    def next_shard(self) -> int:
        """Return the number of the next shard; numbers are never reused."""
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'shards'"
        rows = self._database.select((int,), query)
        used = max((number for (number,) in rows), default=0)
        if not 0 <= used < _MAX_SHARD:
            raise self._database.damaged("the number of the next shard is out of range")
        return int(used) + 1

    def shard_images(self) -> dict[int, int]:
        """Return how many rows every shard stores, used or not, by its number."""
        query = "SELECT id, images FROM shards ORDER BY id"
        return dict(self._database.select((int, int), query))

    def replace_shards(
        self,
        shards: Sequence[NewShard],
        moves: Sequence[tuple[RowKey, RowKey]],
        settings: Mapping[str, Any],
    ) -> list[str]:
        """Replace all shards and some settings in one transaction.

        Parameters
        ----------
        shards : sequence of NewShard
            From now on the only ones; their files are complete and in place.
        moves : sequence of pairs of RowKey
            Old and new row. Images at other rows are forgotten.
        settings : mapping of str to value
            Those that change.

        Returns
        -------
        list of str
            Files of the former shards, for the caller to delete.
        """
        change = self._database.change
        with self._database.writing():
            files = self.shard_files()
            for shard in shards:
                self._insert_shard(shard)
            change(
                "UPDATE images SET shard = ?, row = ? WHERE shard = ? AND row = ?",
                [(*new, *old) for old, new in moves],
            )
            former = [(number,) for number in files]
            query = "SELECT path FROM images WHERE shard = ?"
            gone = [
                (path,) for key in former for (path,) in self._database.select((str,), query, *key)
            ]
            change("DELETE FROM images WHERE path = ?", gone)
            self._forget_metadata(gone)
            change("DELETE FROM shard_rows WHERE shard = ?", former)
            change("DELETE FROM shards WHERE id = ?", former)
            change(
                "DELETE FROM photos WHERE content_hash NOT IN "
                "(SELECT content_hash FROM shard_rows)",
                [()],
            )
            change(
                "INSERT OR REPLACE INTO settings VALUES (?, ?)",
                [(key, json_text(value)) for key, value in settings.items()],
            )
            self._advance_generation()
        return list(files.values())

    def _insert_shard(self, shard: NewShard) -> None:
        regions = [row.regions for row in shard.rows]
        self._database.change(
            "INSERT INTO shards VALUES (?, ?, ?, ?, ?)",
            [(shard.number, shard.file, len(shard.rows), sum(regions), shard.checksum)],
        )
        # Without the last value, the total.
        firsts = list(accumulate(regions, initial=0))[:-1]
        self._database.change(
            "INSERT INTO shard_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    shard.number, number, row.content_hash, row.width, row.height,
                    first, row.regions, row.checksum,
                )
                for number, (row, first) in enumerate(zip(shard.rows, firsts, strict=True))
            ],
        )  # fmt: skip
