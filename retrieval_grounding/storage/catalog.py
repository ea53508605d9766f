"""The catalog: the SQLite file that alone says which images and shards an index holds."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import StoreError
from .shards import FORMAT_VERSION

__all__ = ["Catalog", "ImageRow", "SkippedFile", "StoredImage"]

_FILE = "catalog.sqlite"

_SCHEMA = """
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE shards (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    file TEXT NOT NULL UNIQUE,
    images INTEGER NOT NULL,
    regions INTEGER NOT NULL,
    checksum TEXT NOT NULL
);
CREATE TABLE images (
    path TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    content_hash TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    shard INTEGER NOT NULL REFERENCES shards (id),
    row INTEGER NOT NULL
);
CREATE INDEX images_by_row ON images (shard, row);
CREATE INDEX images_by_content ON images (content_hash);
CREATE TABLE skipped (
    path TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class StoredImage:
    """Where an image of the collection lies in the shards."""

    path: str
    size: int
    mtime_ns: int
    content_hash: str
    width: int
    height: int


@dataclass(frozen=True)
class ImageRow:
    """An image and its place: row `row` of shard `shard`."""

    path: str
    width: int
    height: int
    shard: int
    row: int


@dataclass(frozen=True)
class SkippedFile:
    """A file that is not in the index, and why."""

    path: str
    reason: str
    detail: str
    size: int = -1
    mtime_ns: int = -1


class Catalog:
    """The catalog of the index in `directory`.

    The tables are described in ``docs/index-format.md``. Writing happens in short transactions,
    one for each shard, so readers see an index grow shard by shard.

    Raises
    ------
    StoreError
        If there is no index, it is damaged, or its format is newer than this release.
    """

    def __init__(self, directory: Path, *, writable: bool = False) -> None:
        self.directory = directory
        path = directory / _FILE
        if not path.is_file():
            raise StoreError(
                f"there is no index in {directory}; make one with "
                f"'retrieval-grounding build PHOTOS --index {directory}'"
            )
        # A reader too must be able to roll back the journal that a killed writer has left.
        mode = "rw" if writable or os.access(path, os.W_OK) else "ro"
        self._connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=30, check_same_thread=False
        )
        try:
            self._connection.execute(f"PRAGMA query_only = {not writable}")
            version = int(self.setting("format_version"))
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise StoreError(f"{path} is damaged ({error}); build the index again") from error
        if version > FORMAT_VERSION:
            raise StoreError(
                f"{directory} has format version {version}, and this release reads up to "
                f"{FORMAT_VERSION}; upgrade retrieval_grounding"
            )

    @classmethod
    def create(cls, directory: Path, settings: dict[str, Any]) -> Catalog:
        """Create an empty catalog in `directory`, which must not have one."""
        (directory / "shards").mkdir(parents=True, exist_ok=True)
        temporary = directory / f".{_FILE}.new"
        temporary.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(temporary)) as connection, connection:
            connection.executescript(_SCHEMA)
            values = settings | {"format_version": FORMAT_VERSION, "generation": 0}
            connection.executemany(
                "INSERT INTO settings VALUES (?, ?)",
                [(key, json.dumps(value)) for key, value in values.items()],
            )
        temporary.replace(directory / _FILE)
        return cls(directory, writable=True)

    @staticmethod
    def exists(directory: Path) -> bool:
        """Tell whether `directory` holds an index."""
        return (directory / _FILE).is_file()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def setting(self, key: str) -> Any:
        """Return a setting, or None if it was never set."""
        found = self._one("SELECT value FROM settings WHERE key = ?", key)
        return json.loads(found[0]) if found else None

    def set_setting(self, key: str, value: Any) -> None:
        """Store a setting as JSON."""
        with self._writing():
            self._connection.execute(
                "INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, json.dumps(value))
            )

    @property
    def generation(self) -> int:
        """A number that grows with every change of the images."""
        return int(self.setting("generation"))

    def counts(self) -> dict[str, int]:
        """Return how many images, regions, shards and skipped files the index holds."""
        regions = self._one("SELECT COALESCE(SUM(regions), 0) FROM shards")
        tables = {name: self._one(f"SELECT COUNT(*) FROM {name}") for name in _COUNTED}
        return {name: row[0] for name, row in tables.items()} | {"regions": regions[0]}

    def indexed_files(self) -> dict[str, tuple[int, int]]:
        """Return size and mtime_ns of every image when it was indexed, by path."""
        rows = self._all("SELECT path, size, mtime_ns FROM images")
        return {path: (size, mtime_ns) for path, size, mtime_ns in rows}

    def skipped(self) -> list[SkippedFile]:
        """Return the files that were skipped, by path."""
        rows = self._all("SELECT path, reason, detail, size, mtime_ns FROM skipped ORDER BY path")
        return [SkippedFile(*row) for row in rows]

    def shard_files(self) -> dict[int, str]:
        """Return the file name of every shard by its number."""
        return dict(self._all("SELECT id, file FROM shards ORDER BY id"))

    def next_shard(self) -> int:
        """Return the number that the next shard gets; numbers are never used twice."""
        used = self._one("SELECT seq FROM sqlite_sequence WHERE name = 'shards'")
        return (used[0] if used else 0) + 1

    def images_at(self, shard: int, row: int) -> list[ImageRow]:
        """Return the images whose regions lie in row `row` of `shard`; none if it is unused."""
        rows = self._all(
            "SELECT path, width, height, shard, row FROM images WHERE shard = ? AND row = ?",
            shard,
            row,
        )
        return [ImageRow(*found) for found in rows]

    def images(self) -> Iterator[ImageRow]:
        """Yield every image, by path."""
        query = "SELECT path, width, height, shard, row FROM images ORDER BY path"
        for row in self._connection.execute(query):
            yield ImageRow(*row)

    def add_shard(
        self,
        number: int,
        file: str,
        regions: int,
        checksum: str,
        images: Sequence[StoredImage],
    ) -> None:
        """Commit a shard that lies on disk, and its images, in one transaction.

        An image whose path is known takes its new place; its old row is then unused.
        """
        with self._writing():
            self._connection.execute(
                "INSERT INTO shards VALUES (?, ?, ?, ?, ?)",
                (number, file, len(images), regions, checksum),
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (i.path, i.size, i.mtime_ns, i.content_hash, i.width, i.height, number, row)
                    for row, i in enumerate(images)
                ],
            )
            self._connection.executemany(
                "DELETE FROM skipped WHERE path = ?", [(image.path,) for image in images]
            )
            self._advance_generation()

    def add_skipped(self, files: Iterable[SkippedFile]) -> None:
        """Record files that cannot be indexed; what the index held of them is forgotten."""
        with self._writing():
            forgotten = 0
            for file in files:
                self._connection.execute(
                    "INSERT OR REPLACE INTO skipped VALUES (?, ?, ?, ?, ?)",
                    (file.path, file.size, file.mtime_ns, file.reason, file.detail),
                )
                deleted = self._connection.execute(
                    "DELETE FROM images WHERE path = ?", (file.path,)
                )
                forgotten += deleted.rowcount
            if forgotten:
                self._advance_generation()

    def _advance_generation(self) -> None:
        self._connection.execute(
            "UPDATE settings SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'"
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._connection:
                yield
        except sqlite3.Error as error:
            raise StoreError(
                f"the catalog of {self.directory} cannot be written: {error}"
            ) from error

    def _one(self, query: str, *values: object) -> Any:
        return self._connection.execute(query, values).fetchone()

    def _all(self, query: str, *values: object) -> list[Any]:
        return self._connection.execute(query, values).fetchall()


_COUNTED = ("images", "shards", "skipped")
