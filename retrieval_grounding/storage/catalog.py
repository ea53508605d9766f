"""The catalog: the SQLite file that defines which images and shards an index holds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..core.photo import Photo
from ..core.reports import SkippedFile
from ..core.types import RowKey
from .filters import BUILT_IN, SqlCondition
from .rows import MAX_SIDE, ImageRow, KnownFile, LiveRow, NewShard, StoredImage
from .shard_tables import ShardTables

__all__ = ["Catalog"]


_ROWS_PER_QUERY = 400  # older releases of SQLite allow 999 variables, two for each row
_ALL = SqlCondition("1", ())
_LIVE = "EXISTS (SELECT 1 FROM images i WHERE i.shard = r.shard AND i.row = r.row)"


class Catalog(ShardTables):
    """The catalog of an index, with its tables of images, shards and skipped files.

    The tables are described in ``docs/index-format.md``. Writing happens in short transactions,
    one for each shard, so readers see an index grow shard by shard. See :class:`OpenCatalog` for
    parameters and errors.
    """

    def counts(self) -> dict[str, int]:
        """Return how many images, shards, skipped files and regions the index holds.

        ``regions`` counts the regions that images use, each once; ``unused_regions`` those that
        changed and removed images left in the shards.
        """
        count = self._database.count
        with self.reading():
            counts = {
                # SQLite cannot be stopped while it computes COUNT(*) of a table.
                table: count(f"SELECT COALESCE(SUM(1), 0) FROM {table}")
                for table in ("images", "shards", "skipped")
            }
            stored = count("SELECT COALESCE(SUM(regions), 0) FROM shards")
            rows = count("SELECT COALESCE(SUM(images), 0) FROM shards")
            # Looking for the images of every row takes a second for a million.
            live = (
                stored
                if rows == self.image_count()
                else count(f"SELECT COALESCE(SUM(regions), 0) FROM shard_rows r WHERE {_LIVE}")
            )
        return counts | {"regions": live, "unused_regions": stored - live}

    def image_count(self) -> int:
        """Return how many images the index holds; several with the same content count as one."""
        return self._database.count(
            "SELECT COALESCE(SUM(1), 0) FROM (SELECT DISTINCT shard, row FROM images)"
        )

    def known_files(self) -> dict[str, KnownFile]:
        """Return every image's file as it was when it was indexed, by path."""
        rows = self._database.select(
            (str, int, int, int, int), "SELECT path, size, mtime_ns, shard, row FROM images"
        )
        return {row[0]: KnownFile(*row[1:]) for row in rows}

    def has_images_at(self, path: str) -> bool:
        """Return whether the index has the image `path`, or one below the folder `path`."""
        folder = path if path.endswith(os.sep) else path + os.sep
        end = folder[:-1] + chr(ord(os.sep) + 1)
        return bool(
            self._database.execute(
                "SELECT 1 FROM images WHERE path = ? OR (path > ? AND path < ?) LIMIT 1",
                path, folder, end,
            )
        )  # fmt: skip

    def paths_at(self, path: str) -> list[str]:
        """Return the image `path` if the index has it, else the images below the folder `path`."""
        if self.known_file(path) is not None:
            return [path]
        folder = path if path.endswith(os.sep) else path + os.sep
        end = folder[:-1] + chr(ord(os.sep) + 1)
        rows = self._database.select(
            (str,), "SELECT path FROM images WHERE path > ? AND path < ? ORDER BY path", folder, end
        )
        return [found for (found,) in rows]

    def rows_by_content(self) -> dict[str, RowKey]:
        """Return the row that has the regions of each content, by content hash.

        Unused rows are included, so a file that comes back finds its embeddings.
        """
        rows = self._database.select(
            (str, int, int),
            "SELECT content_hash, shard, row FROM shard_rows ORDER BY shard, row",
        )
        return {content_hash: (shard, row) for content_hash, shard, row in rows}

    def skipped(self) -> list[SkippedFile]:
        """Return the files that were skipped, by path."""
        rows = self._database.select(
            (str, str, str, int, int),
            "SELECT path, reason, detail, size, mtime_ns FROM skipped ORDER BY path",
        )
        return [SkippedFile(*row) for row in rows]

    def known_file(self, path: str) -> KnownFile | None:
        """Return the file of one image as it was when it was indexed."""
        query = "SELECT size, mtime_ns, shard, row FROM images WHERE path = ?"
        rows = self._database.select((int, int, int, int), query, path)
        return KnownFile(*rows[0]) if rows else None

    def row_of_content(self, content_hash: str) -> RowKey | None:
        """Return the row that has the regions of a content, as :meth:`rows_by_content` does."""
        query = (
            "SELECT shard, row FROM shard_rows WHERE content_hash = ? ORDER BY shard DESC, row DESC"
        )
        rows = self._database.select((int, int), f"{query} LIMIT 1", content_hash)
        return (rows[0][0], rows[0][1]) if rows else None

    def live_rows(self, shard: int) -> list[LiveRow]:
        """Return the rows of a shard that images use, in order."""
        return self._rows(f"shard = ? AND {_LIVE}", shard)

    def stored_rows(self, shard: int) -> list[LiveRow]:
        """Return all rows of a shard, used or not, in order."""
        return self._rows("shard = ?", shard)

    def _rows(self, condition: str, shard: int) -> list[LiveRow]:
        rows = self._database.select(
            (int, int, str, int, int, int, int, str),
            "SELECT shard, row, content_hash, width, height, first_region, regions, checksum "
            f"FROM shard_rows r WHERE {condition} ORDER BY row",
            shard,
        )
        return [LiveRow(*row) for row in rows]

    def shard_use(self) -> dict[int, tuple[int, int, int]]:
        """Return, by shard: its regions, its live rows, and the regions of its live rows."""
        rows = self._database.select(
            (int, int, int, int),
            "SELECT s.id, s.regions, COUNT(r.row), COALESCE(SUM(r.regions), 0) FROM shards s "
            f"LEFT JOIN shard_rows r ON r.shard = s.id AND {_LIVE} GROUP BY s.id ORDER BY s.id",
        )
        return {number: (regions, used, live) for number, regions, used, live in rows}

    def images_at(
        self, keys: Sequence[RowKey], condition: SqlCondition | None = None
    ) -> dict[RowKey, list[ImageRow]]:
        """Return the images that use some rows, by row and sorted by path; omit unused rows.

        With `condition`, other images are left out, too.
        """
        wanted, effort = condition or _ALL, 1 if condition is None else condition.effort
        found: dict[RowKey, list[ImageRow]] = {}
        for start in range(0, len(keys), _ROWS_PER_QUERY):
            part = keys[start : start + _ROWS_PER_QUERY]
            values = ", ".join(["(?, ?)"] * len(part))
            rows = self._database.select(
                (str, int, int, int, int, str),
                f"WITH wanted (shard, row) AS (VALUES {values}) "
                "SELECT path, width, height, shard, row, content_hash FROM wanted "
                # CROSS JOIN fixes the order, so each row is looked up by its key.
                "CROSS JOIN images USING (shard, row) CROSS JOIN shard_rows USING (shard, row) "
                f"WHERE {wanted.sql} ORDER BY path",
                *(number for key in part for number in key),
                *wanted.values,
                effort=effort,
            )
            for image in self._image_rows(rows):
                found.setdefault((image.shard, image.row), []).append(image)
        return found

    def rows_with(self, condition: SqlCondition | None) -> list[RowKey]:
        """Return the rows that images use of which a condition holds; each once, in order."""
        wanted = condition or _ALL
        rows = self._database.select(
            (int, int),
            "SELECT shard, row FROM images JOIN shard_rows USING (shard, row) "
            f"WHERE {wanted.sql} GROUP BY shard, row ORDER BY shard, row",
            *wanted.values,
            effort=wanted.effort,
        )
        return [(shard, row) for shard, row in rows]

    def content_rows(self, prefix: str) -> list[tuple[str, RowKey]]:
        """Return at most two contents in use whose hashes begin with `prefix`, with a row each."""
        rows = self._database.select(
            (str, int, int),
            "SELECT content_hash, MAX(shard), row FROM shard_rows r WHERE content_hash >= ? "
            f"AND content_hash < ? AND {_LIVE} GROUP BY content_hash LIMIT 2",
            prefix, prefix + "g",
        )  # fmt: skip
        return [(content_hash, (shard, row)) for content_hash, shard, row in rows]

    def dates_of(self, paths: Sequence[str]) -> dict[str, str]:
        """Return when images were taken, or their files changed, as filters compare it; by path."""
        date = BUILT_IN["date"][1]
        found: dict[str, str] = {}
        for start in range(0, len(paths), _ROWS_PER_QUERY):
            part = paths[start : start + _ROWS_PER_QUERY]
            found |= self._database.select(
                (str, str),
                f"SELECT path, {date} FROM images JOIN shard_rows USING (shard, row) "
                f"WHERE path IN ({', '.join('?' * len(part))})",
                *part,
            )
        return found

    def images(self) -> Iterator[ImageRow]:
        """Return an iterator over all images, by path."""
        # Read at once: an open cursor would block writers for as long as the caller iterates.
        rows = self._database.select(
            (str, int, int, int, int, str),
            "SELECT path, width, height, shard, row, content_hash "
            "FROM images JOIN shard_rows USING (shard, row) ORDER BY path",
        )
        return iter(self._image_rows(rows))

    def images_after(self, path: str, count: int) -> list[ImageRow]:
        """Return the first `count` images after `path`, by path."""
        rows = self._database.select(
            (str, int, int, int, int, str),
            "SELECT path, width, height, shard, row, content_hash FROM images "
            "JOIN shard_rows USING (shard, row) WHERE path > ? ORDER BY path LIMIT ?",
            path, count,
        )  # fmt: skip
        return self._image_rows(rows)

    def commit(
        self,
        *,
        shard: NewShard | None = None,
        images: Sequence[StoredImage] = (),
        touched: Sequence[StoredImage] = (),
        removed: Iterable[str] = (),
        skipped: Iterable[SkippedFile] = (),
        moves: Sequence[tuple[str, str]] = (),
        photos: Mapping[str, Photo] | None = None,
    ) -> None:
        """Commit a shard and changes of images in one transaction.

        Parameters
        ----------
        shard : NewShard, optional
            Its file is complete and on disk.
        images : sequence of StoredImage
            New images, and known ones that now use a different row.
        touched : sequence of StoredImage
            Known images that use the same row, with a new size or time.
        removed : iterable of str
            Paths to forget, of images and of skipped files.
        skipped : iterable of SkippedFile
            Files that cannot be indexed; images of the same paths are forgotten.
        moves : sequence of (str, str)
            New and old paths of images that were moved; their ids and metadata follow.
        photos : mapping of str to Photo, optional
            What photographs say, by content hash.
        """
        gone = [(path,) for path in removed]
        unusable = list(skipped)
        if not (shard or images or touched or gone or unusable or photos):
            return
        change = self._database.change
        with self._database.writing():
            if shard is not None:
                self._insert_shard(shard)
            self._follow_moves(moves)
            self._insert_photos(photos or {})
            forgotten = change("DELETE FROM images WHERE path = ?", gone)
            change("DELETE FROM skipped WHERE path = ?", gone)
            change("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)", images)
            change("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)", touched)
            indexed = [(image.path,) for image in (*images, *touched)]
            change("DELETE FROM skipped WHERE path = ?", indexed)
            forgotten += change(
                "DELETE FROM images WHERE path = ?", [(file.path,) for file in unusable]
            )
            change(
                "INSERT OR REPLACE INTO skipped VALUES (?, ?, ?, ?, ?)",
                [(f.path, f.size, f.mtime_ns, f.reason, f.detail) for f in unusable],
            )
            self._forget_metadata([*gone, *((file.path,) for file in unusable)])
            if shard is not None or images or forgotten or photos:
                self._advance_generation()

    def replace_rows(
        self, moves: Sequence[tuple[RowKey, RowKey]], shard: NewShard | None, dropped: Iterable[int]
    ) -> list[str]:
        """Point images to copies of their rows and forget shards, in one transaction.

        Parameters
        ----------
        moves : sequence of pairs of RowKey
            Old and new row.
        shard : NewShard, optional
            Holds the copies; its file is complete and on disk.
        dropped : iterable of int
            Shards to forget; those that images still use stay.

        Returns
        -------
        list of str
            Files of the shards that were forgotten, for the caller to delete.
        """
        change = self._database.change
        with self._database.writing():
            if shard is not None:
                self._insert_shard(shard)
            change(
                "UPDATE images SET shard = ?, row = ? WHERE shard = ? AND row = ?",
                [(*new, *old) for old, new in moves],
            )
            files = self.shard_files()
            used = "SELECT EXISTS (SELECT 1 FROM images WHERE shard = ?)"
            candidates = sorted(files.keys() & set(dropped))
            forgotten = [n for n in candidates if not self._database.count(used, n)]
            change("DELETE FROM shard_rows WHERE shard = ?", [(number,) for number in forgotten])
            change("DELETE FROM shards WHERE id = ?", [(number,) for number in forgotten])
            if forgotten:
                change(
                    "DELETE FROM photos WHERE content_hash NOT IN "
                    "(SELECT content_hash FROM shard_rows)",
                    [()],
                )
            self._advance_generation()
        return [files[number] for number in forgotten]

    def problems(self) -> list[str]:
        """Return what SQLite finds wrong with the file, and references to missing rows."""
        execute = self._database.execute
        # Only the first: where pages point to each other in circles, problems have no end.
        [(found,)] = execute("PRAGMA integrity_check(1)")
        if found != "ok":
            return [str(found)]
        problems = []
        if count := len(execute("PRAGMA foreign_key_check(images)")):
            problems.append(f"{count} images point to rows that no shard has")
        if count := len(execute("PRAGMA foreign_key_check(shard_rows)")):
            problems.append(f"{count} rows belong to no shard")
        return problems + self.metadata_problems()

    def _image_rows(self, rows: Iterable[Sequence[Any]]) -> list[ImageRow]:
        images = [ImageRow(*row) for row in rows]
        sides = [side for image in images for side in (image.width, image.height)]
        if sides and not 0 < min(sides) <= max(sides) <= MAX_SIDE:
            raise self._database.damaged("the size of an image is out of range")
        return images
