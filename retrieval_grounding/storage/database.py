"""The SQLite connection of a catalog: opening, transactions, typed rows, errors."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from operator import contains
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from ..core.errors import StoreError
from ..core.fork import HeldOverForks
from ..core.strict_json import json_text
from .catalog_file import check_files, has_known_schema, has_settings, restrict
from .files import as_store_error, sync_folder, temporary_path
from .migrations import migrate
from .query_limits import QueryLimits

__all__ = ["Database", "database_uri"]


_BUSY_SECONDS = 60  # how long to wait for a transaction of another process
_MIGRATION_STATEMENTS = 1000


class Database:
    """An open SQLite file, which may come from a stranger; threads may share it.

    Parameters
    ----------
    path : Path
        The file, in the folder of its index.
    writable : bool
        Allow changes.
    before_commit : callable, optional
        Called at the end of each transaction, which is rolled back if it raises.

    Raises
    ------
    StoreError
        If the file cannot be opened, or opening it could do more than read it. Every method raises
        it if the file cannot be used.

    Attributes
    ----------
    has_known_schema, has_settings : bool
        Whether all tables, and whether the table ``settings``, are exactly those of an index.
    """

    def __init__(
        self, path: Path, *, writable: bool, before_commit: Callable[[], None] | None = None
    ) -> None:
        self._path = path
        self._directory = path.parent
        self._writable = writable
        self._before_commit = before_commit
        self._limits = QueryLimits(path)
        self._lock = HeldOverForks()  # SQLite's locks cannot be inherited
        self._copied: tuple[int, ...] | None = None
        self._on_change: Callable[[], None] | None = None
        self._open()

    def _open(self) -> None:
        path, writable = self._path, self._writable
        # Readers also need write access, to roll back the journal of a killed writer.
        mode = "rw" if writable or os.access(path, os.W_OK) else "ro"
        with self._reporting("opened"):
            check_files(path)
            self._connection = sqlite3.connect(
                f"{database_uri(path.absolute())}?mode={mode}",
                uri=True,
                timeout=_BUSY_SECONDS,
                check_same_thread=False,
            )
            self._restrict()
            self._connection.execute(f"PRAGMA query_only = {not writable}")
            self.has_known_schema = has_known_schema(self._connection)
            self.has_settings = self.has_known_schema or has_settings(self._connection)

    def _restrict(self) -> None:
        self._limits.attach(self._connection)
        self._limits.restart()
        restrict(self._connection)

    @staticmethod
    def create(path: Path, schema: str, settings: dict[str, Any]) -> None:
        """Create the file in one step, with the tables of `schema` and JSON `settings`."""
        temporary = temporary_path(path)
        with as_store_error(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            for suffix in ("", "-journal", "-wal", "-shm"):
                temporary.with_name(f"{temporary.name}{suffix}").unlink(missing_ok=True)
            try:
                with contextlib.closing(sqlite3.connect(temporary)) as connection, connection:
                    connection.executescript(schema)
                    connection.executemany(
                        "INSERT INTO settings VALUES (?, ?)",
                        [(key, json_text(value)) for key, value in settings.items()],
                    )
            except sqlite3.Error as error:
                raise StoreError(f"{path.parent} cannot be written ({error})") from error
            temporary.replace(path)
            sync_folder(path.parent)

    def migrate(self, version: int, on_change: Callable[[], None]) -> None:
        """Bring the tables from `version` to the current format; a reader migrates a copy.

        Once the file changes, a reader opens it again and calls `on_change`, which may migrate it.
        """
        with self._reporting("migrated"):
            self._limits.restart(_MIGRATION_STATEMENTS)
            self._copied = None if self._writable else self._file_state()
            self._on_change = on_change
            self._connection = migrate(self._connection, version, in_place=self._writable)
            self._restrict()

    def _follow(self) -> None:
        """Open the file again if this is a migrated copy, and a writer has changed the file."""
        if self._copied is None or self._connection.in_transaction:
            return
        if self._file_state() != self._copied and self._on_change is not None:
            self._copied = None
            self._connection.close()
            self._open()
            self._on_change()

    def _file_state(self) -> tuple[int, ...]:
        try:
            status = self._path.stat()
        except OSError:  # opening it reports the reason
            return ()
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def close(self) -> None:
        """Close the file; later calls raise :class:`StoreError`."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Hold one state of the database: everything read inside the block belongs together.

        Writers wait for the block, so it must be short. Blocks may be nested; threads take turns.
        """
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self._follow()
            with self._reporting("read"):
                self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.rollback()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Commit the changes of the block in one transaction, or none if it raises."""
        with self._lock, self._reporting("written"), self._connection:
            yield
            if self._before_commit is not None:
                self._before_commit()

    def execute(self, query: str, *values: object, effort: int = 1) -> list[Any]:
        """Run one statement and return its rows; it may take `effort` times the usual steps."""
        with self._lock, self._reporting("read"):
            self._follow()
            self._limits.restart(effort)
            return self._limits.fetch(self._connection.execute(query, values))

    def select(
        self, types: Sequence[type], query: str, *values: object, effort: int = 1
    ) -> list[Any]:
        """Return rows whose columns have the given types, which SQLite does not enforce."""
        rows = self.execute(query, *values, effort=effort)
        for number, expected in enumerate(types):
            column = [row[number] for row in rows]
            if {*map(type, column)} - {expected}:
                raise self.damaged("a column holds values of a different type")
            if expected is str and any(map(contains, column, repeat("\0"))):
                raise self.damaged("a text contains a zero byte")
        return rows

    def count(self, query: str, *values: object) -> int:
        """Return the single number that a query selects."""
        [(number,)] = self.select([int], query, *values)
        return int(number)

    def change(self, statement: str, rows: Sequence[Sequence[object]]) -> int:
        """Run a statement for each row of values; return how many rows of the table it changed."""
        self._limits.restart(1 + len(rows))
        return self._connection.executemany(statement, rows).rowcount

    def damaged(self, problem: str) -> StoreError:
        """Return the error that reports damage to the catalog."""
        return StoreError(
            f"the catalog of {self._directory} is damaged ({problem}); build the index again"
        )

    @contextlib.contextmanager
    def _reporting(self, action: str) -> Iterator[None]:
        """Raise SQLite's errors as :class:`StoreError`."""
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise StoreError(f"the index {self._directory} is closed; open it again") from error
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if self._limits.exceeded:
                self._limits.restart()
                problem = "a query takes more than a file of its size can need"
                raise self.damaged(problem) from error
            damaged = not isinstance(error, sqlite3.OperationalError) or "no such" in str(error)
            raise StoreError(
                f"the catalog of {self._directory} "
                + (f"is damaged ({error})" if damaged else f"cannot be {action}: {error}")
            ) from error


def database_uri(path: PurePath) -> str:
    r"""Return the URI of an absolute path; in SQLite's, a network share belongs to the path.

    >>> from pathlib import PurePosixPath, PureWindowsPath
    >>> database_uri(PurePosixPath("/photos 1/catalog.sqlite"))
    'file:///photos%201/catalog.sqlite'
    >>> database_uri(PureWindowsPath("C:/photos/catalog.sqlite"))
    'file:///C:/photos/catalog.sqlite'
    >>> database_uri(PureWindowsPath(r"\\server\share\catalog.sqlite"))
    'file:////server/share/catalog.sqlite'
    """
    text = path.as_posix()
    return "file://" + quote(
        text if text.startswith("/") else f"/{text}", "/:", errors="surrogateescape"
    )
