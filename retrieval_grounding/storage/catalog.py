"""The catalog: the SQLite file that alone says which images and shards an index holds."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import StoreError
from ..core.reports import SkippedFile
from ..core.types import RowKey
from .files import as_store_error, sync_folder
from .migrations import FORMAT_VERSION, migrate
from .nearby import folders_nearby
from .rows import ImageRow, KnownFile, LiveRow, NewShard, StoredImage
from .schema import SCHEMA

__all__ = ["CATALOG_FILE", "Catalog"]


CATALOG_FILE = "catalog.sqlite"

Parsed = TypeVar("Parsed")

_MAX_DIMENSION = 1 << 16
_PLACES_AT_ONCE = 400  # older releases of SQLite allow 999 variables
_TYPES = {"i": int, "t": str}
_LIVE = "EXISTS (SELECT 1 FROM images i WHERE i.shard = r.shard AND i.row = r.row)"
_IMAGE_ROW = (
    "SELECT path, width, height, shard, row, content_hash "
    "FROM images JOIN shard_rows USING (shard, row)"
)


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
        path = directory / CATALOG_FILE
        if not path.is_file():
            near = ", ".join(str(folder) for folder in folders_nearby(directory, self.exists))
            raise StoreError(
                f"there is no index in {directory}"
                + (f" but there is in {near}" if near else "")
                + f"; make one with 'retrieval-grounding build PHOTOS --index {directory}'"
            )
        # A reader too must be able to roll back the journal that a killed writer has left.
        mode = "rw" if writable or os.access(path, os.W_OK) else "ro"
        self._reading = threading.RLock()
        with self._reporting("opened"):
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=60,
                check_same_thread=False,
            )
            self._connection.execute(f"PRAGMA query_only = {not writable}")
        version = self.setting("format_version")
        if not isinstance(version, int):
            raise StoreError(f"{path} is damaged (no format version); build the index again")
        if version > FORMAT_VERSION:
            raise StoreError(
                f"{directory} has format version {version}, and this release reads up to "
                f"{FORMAT_VERSION}; upgrade retrieval_grounding"
            )
        if version < FORMAT_VERSION:
            with self._reporting("migrated"):
                self._connection = migrate(self._connection, version, in_place=writable)

    @classmethod
    def create(cls, directory: Path, settings: dict[str, Any]) -> Catalog:
        """Create an empty catalog in `directory`, which must not have one."""
        temporary = directory / f".{CATALOG_FILE}.partial"
        with as_store_error(directory):
            (directory / "shards").mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            try:
                with contextlib.closing(sqlite3.connect(temporary)) as connection, connection:
                    connection.executescript(SCHEMA)
                    values = settings | {"format_version": FORMAT_VERSION, "generation": 0}
                    connection.executemany(
                        "INSERT INTO settings VALUES (?, ?)",
                        [(key, json.dumps(value)) for key, value in values.items()],
                    )
            except sqlite3.Error as error:
                raise StoreError(f"{directory} cannot be written ({error})") from error
            temporary.replace(directory / CATALOG_FILE)
            sync_folder(directory)
        return cls(directory, writable=True)

    @staticmethod
    def exists(directory: Path) -> bool:
        """Tell whether `directory` holds an index."""
        return (directory / CATALOG_FILE).is_file()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Hold one state of the catalog: all that is read inside belongs together.

        A writer cannot commit meanwhile, so the block must be short. Blocks may be nested; threads
        take turns.
        """
        with self._reading:
            if self._connection.in_transaction:
                yield
                return
            with self._reporting("read"):
                self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.rollback()

    def setting(self, key: str) -> Any:
        """Return a setting, or None if it was never set."""
        found = self._all("SELECT value FROM settings WHERE key = ?", key)
        try:
            return json.loads(found[0][0]) if found else None
        except (ValueError, TypeError, RecursionError) as error:
            raise StoreError(
                f"the setting {key!r} of {self.directory} is damaged; build the index again"
            ) from error

    def parsed(self, key: str, parse: Callable[[Any], Parsed]) -> Parsed:
        """Return what `parse` makes of a setting, or raise :class:`StoreError` if it cannot."""
        value = self.setting(key)
        try:
            return parse(value)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise self._damaged(f"its setting {key!r}") from error

    @property
    def dimension(self) -> int:
        """Length of the embeddings."""
        value = self.parsed("dimension", int)
        if not 1 <= value <= _MAX_DIMENSION:
            raise self._damaged("its setting 'dimension'")
        return value

    def set_setting(self, key: str, value: Any) -> None:
        """Store a setting as JSON."""
        with self._writing():
            self._connection.execute(
                "INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, json.dumps(value))
            )

    @property
    def generation(self) -> int:
        """A number that grows with every change of the images."""
        return self.parsed("generation", int)

    def counts(self) -> dict[str, int]:
        """Return how many images, shards, skipped files and regions the index holds.

        ``regions`` are those of images, each once; ``unused_regions`` are what changed and removed
        images left in the shards.
        """
        with self.reading():
            counts = {
                name: int(self._all(f"SELECT COUNT(*) FROM {name}")[0][0])
                for name in ("images", "shards", "skipped")
            }
            total = f"SELECT COALESCE(SUM(regions), 0) FROM shard_rows r WHERE {_LIVE}"
            live = int(self._all(total)[0][0])
            stored = int(self._all("SELECT COALESCE(SUM(regions), 0) FROM shards")[0][0])
        return counts | {"regions": live, "unused_regions": stored - live}

    def known_files(self) -> dict[str, KnownFile]:
        """Return every image's file as it was when it was indexed, by path."""
        query = "SELECT path, size, mtime_ns, shard, row FROM images"
        rows = self._typed("tiiii", query)
        return {row[0]: KnownFile(*row[1:]) for row in rows}

    def places(self) -> dict[str, RowKey]:
        """Return where the regions of each content lie, by content hash.

        Rows to which no image points any more are among them, so that a file that comes back finds
        its embeddings.
        """
        query = "SELECT content_hash, shard, row FROM shard_rows ORDER BY shard, row"
        rows = self._typed("tii", query)
        return {content_hash: (shard, row) for content_hash, shard, row in rows}

    def skipped(self) -> list[SkippedFile]:
        """Return the files that were skipped, by path."""
        query = "SELECT path, reason, detail, size, mtime_ns FROM skipped ORDER BY path"
        rows = self._typed("tttii", query)
        return [SkippedFile(*row) for row in rows]

    def shard_files(self) -> dict[int, str]:
        """Return the file name of every shard by its number."""
        files = dict(self._typed("it", "SELECT id, file FROM shards ORDER BY id"))
        if any(Path(file).name != file for file in files.values()):
            raise self._damaged("a shard lies outside of the index")
        return files

    def shard_checksums(self) -> dict[int, str]:
        """Return the checksum of every shard's file by its number."""
        return dict(self._typed("it", "SELECT id, checksum FROM shards ORDER BY id"))

    def shard_regions(self) -> dict[int, int]:
        """Return the number of regions of every shard, used or not, by its number."""
        return dict(self._typed("ii", "SELECT id, regions FROM shards ORDER BY id"))

    def next_shard(self) -> int:
        """Return the number that the next shard gets; numbers are never used twice."""
        used = self._typed("i", "SELECT seq FROM sqlite_sequence WHERE name = 'shards'")
        return (used[0][0] if used else 0) + 1

    def shard_rows(self, shard: int, *, live: bool = False) -> list[LiveRow]:
        """Return the rows of a shard, in order; with `live` those that an image points to."""
        rows = self._typed(
            "iitiiiit",
            "SELECT shard, row, content_hash, width, height, first_region, regions, checksum "
            f"FROM shard_rows r WHERE shard = ? {'AND ' + _LIVE if live else ''} ORDER BY row",
            shard,
        )
        return [LiveRow(*row) for row in rows]

    def shard_use(self) -> dict[int, tuple[int, int, int]]:
        """Return for every shard: its regions, its live rows, and the regions of those."""
        rows = self._typed(
            "iiii",
            "SELECT s.id, s.regions, COUNT(r.row), COALESCE(SUM(r.regions), 0) FROM shards s "
            f"LEFT JOIN shard_rows r ON r.shard = s.id AND {_LIVE} GROUP BY s.id ORDER BY s.id",
        )
        return {number: (regions, used, live) for number, regions, used, live in rows}

    def images_at(self, shard: int, row: int) -> list[ImageRow]:
        """Return the images whose regions lie in row `row` of `shard`; none if it is unused."""
        query = f"{_IMAGE_ROW} WHERE images.shard = ? AND images.row = ? ORDER BY path"
        return [ImageRow(*found) for found in self._typed("tiiiit", query, shard, row)]

    def images_at_places(self, places: Sequence[RowKey]) -> dict[RowKey, list[ImageRow]]:
        """Return the images of several rows in one question; unused rows are left out."""
        found: dict[RowKey, list[ImageRow]] = {}
        for start in range(0, len(places), _PLACES_AT_ONCE):
            part = places[start : start + _PLACES_AT_ONCE]
            values = ", ".join(["(?, ?)"] * len(part))
            rows = self._typed(
                "tiiiit",
                f"WITH wanted (shard, row) AS (VALUES {values}) "
                "SELECT path, width, height, shard, row, content_hash FROM wanted "
                # CROSS: in this order, each row looked up by its key.
                "CROSS JOIN images USING (shard, row) CROSS JOIN shard_rows USING (shard, row) "
                "ORDER BY path",
                *(number for place in part for number in place),
            )
            for row in rows:
                found.setdefault((row[3], row[4]), []).append(ImageRow(*row))
        return found

    def images(self) -> Iterator[ImageRow]:
        """Yield every image, by path."""
        # All at once: an open cursor would keep writers waiting for as long as the caller iterates.
        rows = self._typed("tiiiit", f"{_IMAGE_ROW} ORDER BY path")
        return (ImageRow(*row) for row in rows)

    def commit(
        self,
        *,
        shard: NewShard | None = None,
        images: Sequence[StoredImage] = (),
        touched: Sequence[StoredImage] = (),
        removed: Iterable[str] = (),
        skipped: Iterable[SkippedFile] = (),
    ) -> None:
        """Commit a shard that lies on disk, and changes of images, in one transaction.

        Parameters
        ----------
        shard : NewShard, optional
            Its file is complete.
        images : sequence of StoredImage
            New ones, and known ones at their new place.
        touched : sequence of StoredImage
            Known ones at the same place, with another size or time.
        removed : iterable of str
            Paths that the index forgets; also as skipped files.
        skipped : iterable of SkippedFile
            What the index held of them is forgotten.
        """
        gone = [(path,) for path in removed]
        bad = list(skipped)
        if not (shard or images or touched or gone or bad):
            return
        with self._writing():
            run = self._connection.executemany
            if shard is not None:
                self._insert_shard(shard)
            changed = shard is not None or bool(images)
            for table in ("images", "skipped"):
                deleted = run(f"DELETE FROM {table} WHERE path = ?", gone).rowcount
                changed |= table == "images" and deleted > 0
            run("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)", images)
            run("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)", touched)
            run("DELETE FROM skipped WHERE path = ?", [(i.path,) for i in (*images, *touched)])
            forgotten = run("DELETE FROM images WHERE path = ?", [(f.path,) for f in bad])
            changed |= forgotten.rowcount > 0
            run(
                "INSERT OR REPLACE INTO skipped VALUES (?, ?, ?, ?, ?)",
                [(f.path, f.size, f.mtime_ns, f.reason, f.detail) for f in bad],
            )
            if changed:
                self._advance_generation()

    def replace_rows(
        self, moves: Sequence[tuple[RowKey, RowKey]], shard: NewShard | None, dropped: Iterable[int]
    ) -> list[str]:
        """Let images point to copies of their rows, and forget shards, in one transaction.

        Parameters
        ----------
        moves : sequence of pairs of places
            From where to where.
        shard : NewShard, optional
            Holds the copies; its file is complete.
        dropped : iterable of int
            Shards that go, those excepted to which an image still points.

        Returns
        -------
        list of str
            Files of the shards that went, for the caller to delete.
        """
        with self._writing():
            if shard is not None:
                self._insert_shard(shard)
            self._connection.executemany(
                "UPDATE images SET shard = ?, row = ? WHERE shard = ? AND row = ?",
                [(*new, *old) for old, new in moves],
            )
            files, names = [], self.shard_files()
            for number in sorted(names.keys() & set(dropped)):
                if not self._all("SELECT 1 FROM images WHERE shard = ? LIMIT 1", number):
                    files.append(names[number])
                    self._connection.execute("DELETE FROM shard_rows WHERE shard = ?", (number,))
                    self._connection.execute("DELETE FROM shards WHERE id = ?", (number,))
            self._advance_generation()
        return files

    def problems(self) -> list[str]:
        """Return what SQLite finds wrong with the file, and rows that point nowhere."""
        problems = [str(row[0]) for row in self._all("PRAGMA integrity_check") if row[0] != "ok"]
        for name, found in (
            ("images point to rows that no shard has", "PRAGMA foreign_key_check(images)"),
            ("rows belong to no shard", "PRAGMA foreign_key_check(shard_rows)"),
        ):
            count = len(self._all(found))
            problems += [f"{count} {name}"] if count else []
        return problems

    def _insert_shard(self, shard: NewShard) -> None:
        regions = [row.regions for row in shard.rows]
        firsts = accumulate(regions, initial=0)
        self._connection.execute(
            "INSERT INTO shards VALUES (?, ?, ?, ?, ?)",
            (shard.number, shard.file, len(shard.rows), sum(regions), shard.checksum),
        )
        self._connection.executemany(
            "INSERT INTO shard_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    shard.number, number, row.content_hash, row.width, row.height,
                    first, row.regions, row.checksum,
                )
                for number, (row, first) in enumerate(
                    zip(shard.rows, firsts, strict=False)
                )
            ],
        )  # fmt: skip

    def _advance_generation(self) -> None:
        self._connection.execute(
            "UPDATE settings SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'"
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._reading, self._reporting("written"), self._connection:
            yield

    @contextlib.contextmanager
    def _reporting(self, action: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            damaged = not isinstance(error, sqlite3.OperationalError) or "no such" in str(error)
            raise StoreError(
                f"the catalog of {self.directory} "
                + (f"is damaged ({error})" if damaged else f"cannot be {action}: {error}")
            ) from error

    def _typed(self, types: str, query: str, *values: object) -> list[Any]:
        """Return rows of integers (``i``) and texts (``t``), which SQLite does not check."""
        rows = self._all(query, *values)
        for kind, column in zip(types, zip(*rows, strict=True), strict=bool(rows)):
            if set(map(type, column)) != {_TYPES[kind]}:
                raise self._damaged("a column holds values of another type")
        return rows

    def _damaged(self, found: str) -> StoreError:
        return StoreError(
            f"the catalog of {self.directory} is damaged ({found}); build the index again"
        )

    def _all(self, query: str, *values: object) -> list[Any]:
        with self._reading, self._reporting("read"):
            return self._connection.execute(query, values).fetchall()
