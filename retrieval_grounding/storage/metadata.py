"""The tables of a catalog about photographs, ids and the user's metadata."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, get_args

from ..core.errors import MetadataError
from ..core.photo import Photo
from .open_catalog import OpenCatalog

__all__ = ["COLUMN_TYPES", "ColumnType", "ImageMetadata", "MetadataTables", "MetadataValue"]


ColumnType = Literal["integer", "number", "boolean", "date", "text"]
COLUMN_TYPES: tuple[ColumnType, ...] = get_args(ColumnType)

MetadataValue = str | int | float | bool

_PATHS_PER_QUERY = 800  # older releases of SQLite allow 999 variables
_STORED: dict[ColumnType, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (int,),
    "date": (str,),
    "text": (str,),
}
MAX_COLUMNS = 256
_PHOTOS = "SELECT content_hash, taken, camera, gps, looks FROM photos"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)
_LOOKS = re.compile(r"([0-9a-f]{16})?")


class ImageMetadata(NamedTuple):
    """What the user said about an image."""

    id: str | None
    values: dict[str, MetadataValue]


class MetadataTables(OpenCatalog):
    """The tables ``photos``, ``image_ids``, ``columns`` and ``metadata``."""

    def columns(self) -> dict[str, ColumnType]:
        """Return the type of each column of the metadata, by its name."""
        rows = self._database.select((str, str), "SELECT name, type FROM columns ORDER BY name")
        if len(rows) > MAX_COLUMNS:
            raise self._database.damaged("it has too many columns of metadata")
        if not all(kind in COLUMN_TYPES for _, kind in rows):
            raise self._database.damaged("a column of the metadata has an unknown type")
        return dict(rows)

    def has_metadata(self) -> bool:
        """Return whether an image has an id or metadata."""
        tables = ("image_ids", "metadata")
        return any(self._database.execute(f"SELECT 1 FROM {name} LIMIT 1") for name in tables)

    def described_contents(self) -> set[str]:
        """Return the contents in the table of photographs."""
        rows = self._database.select((str,), "SELECT content_hash FROM photos")
        return {content_hash for (content_hash,) in rows}

    def photos(self, content_hashes: Iterable[str]) -> dict[str, Photo]:
        """Return what is known about photographs, by the hash of their content."""
        found: dict[str, Photo] = {}
        for part in _parts(list(dict.fromkeys(content_hashes))):
            found |= self._photos(f"{_PHOTOS} WHERE content_hash IN ({_marks(part)})", *part)
        return found

    def _photos(self, query: str, *values: str) -> dict[str, Photo]:
        rows = self._database.select((str, str, str, int, str), query, *values)
        found = {row[0]: Photo(row[1], row[2], bool(row[3]), row[4]) for row in rows}
        if not all(
            (not photo.taken or _is_time(photo.taken)) and _LOOKS.fullmatch(photo.looks)
            for photo in found.values()
        ):
            raise self._database.damaged("what it says of a photograph is impossible")
        return found

    def metadata_of(self, paths: Sequence[str]) -> dict[str, ImageMetadata]:
        """Return the id and the metadata of images; images without both are left out."""
        types = self.columns()
        found: dict[str, ImageMetadata] = {}
        for part in _parts(list(dict.fromkeys(paths))):
            marks = _marks(part)
            ids = dict(
                self._database.select(
                    (str, str), f"SELECT path, id FROM image_ids WHERE path IN ({marks})", *part
                )
            )
            values = self._database.execute(
                f"SELECT path, name, value FROM metadata WHERE path IN ({marks}) "
                "ORDER BY path, name",
                *part,
            )
            found |= {path: ImageMetadata(own, {}) for path, own in ids.items()}
            for path, name, value in values:
                known = found.setdefault(path, ImageMetadata(None, {}))
                known.values[name] = self._checked(types.get(name), value)
        return found

    def paths_by_id(self) -> dict[str, str]:
        """Return the path of the image that has each id."""
        return dict(self._database.select((str, str), "SELECT id, path FROM image_ids"))

    def set_metadata(
        self,
        columns: Mapping[str, ColumnType],
        values: Iterable[tuple[str, str, MetadataValue | None]],
        ids: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Store metadata and ids of images in one transaction.

        Parameters
        ----------
        columns : mapping of str to str
            All columns, with those that there were before.
        values : iterable of (path, column, value)
            Of images of the index; None forgets a value.
        ids : iterable of (path, id)
            Of images of the index; an id belongs to one image.

        Raises
        ------
        MetadataError
            If two images have the same id.
        """
        change = self._database.change
        wanted = dict(ids)
        with self._database.writing():
            change("INSERT OR REPLACE INTO columns VALUES (?, ?)", list(columns.items()))
            rows = list(values)
            kept = [row for row in rows if row[2] is not None]
            change(
                "DELETE FROM metadata WHERE path = ? AND name = ?",
                [row[:2] for row in rows if row[2] is None],
            )
            change("INSERT OR REPLACE INTO metadata VALUES (?, ?, ?)", kept)
            self._refuse_shared_ids(wanted)
            change("DELETE FROM image_ids WHERE path = ?", [(path,) for path in wanted])
            change("INSERT INTO image_ids VALUES (?, ?)", list(wanted.items()))
            self._advance_generation()

    def _refuse_shared_ids(self, wanted: Mapping[str, str]) -> None:
        owners = {own: path for own, path in self.paths_by_id().items() if path not in wanted}
        for path, own in wanted.items():
            if own in owners:
                raise MetadataError(
                    f"the id {own!r} is given to two images, {owners[own]} and {path}; an id names "
                    "one image"
                )
            owners[own] = path

    def _follow_moves(self, moves: Sequence[tuple[str, str]]) -> None:
        """Let ids and metadata follow images from old to new paths, inside a transaction."""
        for table in ("image_ids", "metadata"):
            self._database.change(f"UPDATE OR REPLACE {table} SET path = ? WHERE path = ?", moves)

    def _forget_metadata(self, paths: Sequence[tuple[str]]) -> None:
        """Forget ids and metadata of images, inside a transaction."""
        for table in ("image_ids", "metadata"):
            self._database.change(f"DELETE FROM {table} WHERE path = ?", paths)

    def _insert_photos(self, photos: Mapping[str, Photo]) -> None:
        """Store what photographs say, by the hash of their content, inside a transaction."""
        self._database.change(
            "INSERT OR REPLACE INTO photos VALUES (?, ?, ?, ?, ?)",
            [
                (content_hash, photo.taken, photo.camera, int(photo.gps), photo.looks)
                for content_hash, photo in photos.items()
            ],
        )

    def metadata_problems(self) -> list[str]:
        """Return what is wrong with the tables of metadata."""
        problems = []
        for table in ("image_ids", "metadata"):
            if count := len(self._database.execute(f"PRAGMA foreign_key_check({table})")):
                problems.append(f"{count} rows of {table} are about images that are not there")
        types = self.columns()
        for name, value in self._database.execute("SELECT name, value FROM metadata"):
            if not _fits(types.get(name), value):
                problems.append(f"a value of the column {name!r:.50} is of a different type")
                break
        self.paths_by_id()
        self._photos(_PHOTOS)
        return problems

    def _checked(self, kind: ColumnType | None, value: object) -> MetadataValue:
        if not _fits(kind, value):
            raise self._database.damaged("a value of the metadata is of a different type")
        assert isinstance(value, (str, int, float))
        return bool(value) if kind == "boolean" else value

    def _advance_generation(self) -> None:
        self._database.change(
            "UPDATE settings SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'", [()]
        )


def _fits(kind: ColumnType | None, value: object) -> bool:
    if kind is None or type(value) not in _STORED[kind]:
        return False
    if isinstance(value, float):
        return math.isfinite(value)
    if kind == "boolean":
        return value in (0, 1)
    if kind == "date":
        return isinstance(value, str) and _is_time(value)
    return not (isinstance(value, str) and "\0" in value)


def _is_time(text: str) -> bool:
    try:
        return bool(_TIME.fullmatch(text) and datetime.fromisoformat(text))
    except ValueError:
        return False


def _parts(values: Sequence[str]) -> list[Sequence[str]]:
    starts = range(0, len(values), _PATHS_PER_QUERY)
    return [values[start : start + _PATHS_PER_QUERY] for start in starts]


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
