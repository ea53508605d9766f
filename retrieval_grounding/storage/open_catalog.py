"""An open catalog: its file, its format and its settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import StoreError
from ..core.strict_json import json_text
from .database import Database
from .files import as_store_error
from .lock import WriterLock
from .migrations import FORMAT_VERSION
from .nearby import folders_nearby
from .schema import SCHEMA
from .settings import parse_setting

__all__ = ["CATALOG_FILE", "OpenCatalog"]


CATALOG_FILE = "catalog.sqlite"

Value = TypeVar("Value")
Self = TypeVar("Self", bound="OpenCatalog")

_MAX_DIMENSION = 1 << 16


class OpenCatalog:
    """The file of the catalog of the index in `directory`, with its settings.

    Parameters
    ----------
    directory : Path
        The index.
    writable : bool
        Allow changes; the caller holds the writer's lock.
    lock : WriterLock, optional
        That lock: nothing is committed once it has been deleted or replaced.

    Raises
    ------
    StoreError
        If there is no index, it is damaged, or its format is newer than this release supports.
    """

    def __init__(
        self, directory: Path, *, writable: bool = False, lock: WriterLock | None = None
    ) -> None:
        self.directory = directory
        self._lock = lock
        path = directory / CATALOG_FILE
        if not self.exists(directory):
            near = ", ".join(str(folder) for folder in folders_nearby(directory, self.exists))
            raise StoreError(
                f"there is no index in {directory}"
                + (f" but there is in {near}" if near else "")
                + f"; make one with 'retrieval-grounding build PHOTOS --index {directory}'"
            )
        if (directory / "shards").is_symlink():
            raise StoreError(
                f"{directory / 'shards'} is a link, but the shards of an index are inside its "
                "folder; put them there"
            )
        self._database = Database(path, writable=writable, before_commit=self.check_lock)
        self._check_format()

    def _check_format(self) -> None:
        """Refuse a catalog that this release cannot read, and migrate an older one."""
        directory = self.directory
        version = self.setting("format_version") if self._database.has_settings else None
        if version is not None and version > FORMAT_VERSION:
            raise StoreError(
                f"{directory} has format version {version}, and this release reads up to "
                f"{FORMAT_VERSION}; upgrade retrieval_grounding"
            )
        if not self._database.has_known_schema:
            raise self._database.damaged("its tables are not those of an index")
        if version is None:
            raise self._database.damaged("it has no format version")
        if version < FORMAT_VERSION:
            self._database.migrate(version, self._check_format)

    @classmethod
    def create(
        cls: type[Self],
        directory: Path,
        settings: dict[str, Any],
        *,
        lock: WriterLock | None = None,
    ) -> Self:
        """Create an empty catalog in `directory`, which must not have one."""
        with as_store_error(directory):
            (directory / "shards").mkdir(parents=True, exist_ok=True)
        values = settings | {"format_version": FORMAT_VERSION, "generation": 0}
        Database.create(directory / CATALOG_FILE, SCHEMA, values)
        return cls(directory, writable=True, lock=lock)

    @staticmethod
    def exists(directory: Path) -> bool:
        """Tell whether `directory` holds an index, or something in the place of its catalog."""
        return os.path.lexists(directory / CATALOG_FILE)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def check_lock(self) -> None:
        """Refuse to write if the writer's lock has been deleted or replaced.

        Every transaction does so before it is committed; call it before writing other files.

        Raises
        ------
        StoreError
            If a second writer may have been let in.
        """
        if self._lock is not None:
            self._lock.check()

    def reading(self) -> AbstractContextManager[None]:
        """Hold one state of the catalog: everything read inside the block belongs together.

        Writers wait for the block, so it must be short. Blocks may be nested; threads take turns.
        """
        return self._database.reading()

    def setting(self, key: str) -> Any:
        """Return a setting, or None if it was never set."""
        query = "SELECT value FROM settings WHERE key = ?"
        found = self._database.select((str,), query, key)
        if not found:
            return None
        try:
            return parse_setting(key, found[0][0])
        except ValueError as error:
            raise self._database.damaged(f"its setting {key!r}") from error

    def parse_setting(self, key: str, parse: Callable[[Any], Value]) -> Value:
        """Return ``parse(setting)``; if that fails, the catalog is damaged.

        Raises
        ------
        StoreError
            If `parse` raises an error that unexpected values cause.
        """
        value = self.setting(key)
        try:
            return parse(value)
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
            raise self._database.damaged(f"its setting {key!r}") from error

    def set_setting(self, key: str, value: Any) -> None:
        """Store a setting as JSON."""
        with self._database.writing():
            self._database.change(
                "INSERT OR REPLACE INTO settings VALUES (?, ?)", [(key, json_text(value))]
            )

    @property
    def dimension(self) -> int:
        """Length of the embeddings."""
        value = self.parse_setting("dimension", int)
        if not 1 <= value <= _MAX_DIMENSION:
            raise self._database.damaged("its setting 'dimension'")
        return value

    @property
    def generation(self) -> int:
        """A number that grows with every change of the images."""
        return self.parse_setting("generation", int)

    def state(self) -> tuple[tuple[str, str], ...]:
        """Return what changes with the images and with what is kept of them, to be compared."""
        query = (
            "SELECT key, value FROM settings "
            "WHERE key IN ('generation', 'image_passes', 'vectors') ORDER BY key"
        )
        return tuple((str(key), str(value)) for key, value in self._database.execute(query))
