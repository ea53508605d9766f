"""Checking a catalog's files before SQLite opens them, and its tables before they are used.

An index may come from a stranger, and SQLite does more than read: it rolls back the journal that
lies beside the file, which may name a further file to delete; it creates the files of a write-ahead
log; and it runs what views, triggers and generated columns say.
"""

from __future__ import annotations

import functools
import mmap
import os
import sqlite3
from pathlib import Path
from typing import Any, BinaryIO

from ..core.errors import StoreError
from .files import is_regular, open_regular
from .schema import OLDER_SCHEMAS, SCHEMA

__all__ = ["check_files", "has_known_schema", "has_settings", "restrict"]

_HEADER = b"SQLite format 3\0"
_ROLLBACK_JOURNAL = b"\1\1"
"""Bytes 18 and 19 of the file: written and read with a rollback journal, not a write-ahead log."""

_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_JOURNAL_TAIL = 16  # length and checksum of the super-journal's name, and the magic number
_JOURNAL_SLACK = 1 << 20

_MAX_VALUE_BYTES = 1 << 22  # the longest value is the list of shards in the setting "vectors"
_MAX_SQL_BYTES = 1 << 16
_MAX_TABLES = 100


def check_files(path: Path) -> None:
    """Refuse a catalog that SQLite would do more with than read, or roll back to its last state.

    Parameters
    ----------
    path : Path
        The catalog, which exists; SQLite has not opened it yet.

    Raises
    ------
    StoreError
        If the file or its journal is not a regular file; if there is a write-ahead log; or if the
        journal names a super-journal, which SQLite would delete.
    """
    for suffix in ("-wal", "-shm"):
        if os.path.lexists(f"{path}{suffix}"):
            raise _refused(path, f"there is a {path.name}{suffix}")
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if not _uses_rollback_journal(file.read(20)):
            raise _refused(path, "it is in the mode of a write-ahead log")
    journal = path.with_name(f"{path.name}-journal")
    if not is_regular(journal):
        return
    try:
        with open_regular(journal) as file:
            problem = _problem_of_journal(file, size)
    except FileNotFoundError:  # its writer has just finished
        return
    if problem:
        raise _refused(path, f"its journal {problem}")


def _problem_of_journal(file: BinaryIO, catalog_size: int) -> str | None:
    """Return what no journal of ours has, or None.

    A journal holds earlier versions of the catalog's pages, each once, with at most one header for
    each; see "The Rollback Journal" in SQLite's description of its file format.
    """
    size = os.fstat(file.fileno()).st_size
    if size > 4 * catalog_size + _JOURNAL_SLACK:
        return "is too large"
    if not size:
        return None
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        tail = data[-_JOURNAL_TAIL:]
        if tail.endswith(_JOURNAL_MAGIC) and 0 < int.from_bytes(tail[:4], "big") < size:
            return "names a super-journal"
        at = data.find(_HEADER)
        while at >= 0:
            if not _uses_rollback_journal(data[at : at + 20]):
                return "brings in a write-ahead log"
            at = data.find(_HEADER, at + 1)
    return None


def _uses_rollback_journal(header: bytes) -> bool:
    return not header.startswith(_HEADER) or header[18:20] == _ROLLBACK_JOURNAL


def _refused(path: Path, problem: str) -> StoreError:
    return StoreError(
        f"the catalog of {path.parent} is refused, because {problem}, which no index has; build "
        "the index again, and do not trust its source"
    )


def restrict(connection: sqlite3.Connection) -> None:
    """Let a connection do only what catalogs need, as far as Python and SQLite can."""
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {setting}")
    if hasattr(connection, "setlimit"):  # Python 3.11
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
        connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MAX_SQL_BYTES)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    configure = getattr(connection, "setconfig", None)  # Python 3.12
    if configure is not None:
        configure(getattr(sqlite3, "SQLITE_DBCONFIG_DEFENSIVE"), True)  # noqa: B009
        configure(getattr(sqlite3, "SQLITE_DBCONFIG_ENABLE_TRIGGER"), False)  # noqa: B009
        configure(getattr(sqlite3, "SQLITE_DBCONFIG_ENABLE_VIEW"), False)  # noqa: B009


def has_known_schema(connection: sqlite3.Connection) -> bool:
    """Return whether the tables are exactly those of a format that this release reads.

    So there is no view, trigger, generated column, virtual table or further index.
    """
    return _schema_of(connection) in _known_schemas()


def has_settings(connection: sqlite3.Connection) -> bool:
    """Return whether the table ``settings``, which holds the format version, is ours."""
    [settings] = [entry for entry in _schema_of_text(SCHEMA) if entry[1] == "settings"]
    found = [entry for entry in _schema_of(connection) if entry[1] == "settings"]
    return found == [settings]


Schema = frozenset[tuple[Any, ...]]


def _schema_of(connection: sqlite3.Connection) -> Schema:
    query = f"SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT {_MAX_TABLES}"
    return frozenset(connection.execute(query))


@functools.cache
def _known_schemas() -> frozenset[Schema]:
    return frozenset(_schema_of_text(text) for text in (SCHEMA, *OLDER_SCHEMAS))


@functools.cache
def _schema_of_text(text: str) -> Schema:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(text)
        return _schema_of(connection)
    finally:
        connection.close()
