"""Format versions of an index, and the migration from each to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from .schema import ADDED_IN_VERSION_2

__all__ = ["FORMAT_VERSION", "MIGRATIONS", "migrate"]


FORMAT_VERSION = 2
"""The version that this release writes; it reads all versions up to it."""


def _add_metadata(connection: sqlite3.Connection) -> None:
    """Add tables for photographs, ids and metadata, which are empty until a build fills them."""
    for statement in ADDED_IN_VERSION_2:
        connection.execute(statement)


MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _add_metadata}
"""By version: the function that migrates its catalog to the next version.

It runs inside a transaction, must not commit, and must not change the shards: these are immutable,
and their reader supports all versions.
"""


def migrate(connection: sqlite3.Connection, version: int, *, in_place: bool) -> sqlite3.Connection:
    """Migrate a catalog of an older version to the current one, in one transaction.

    Parameters
    ----------
    connection : sqlite3.Connection
        The catalog.
    version : int
        Its version.
    in_place : bool
        False leaves the file unchanged and migrates a copy in memory: a reader may not have write
        access, and only writers change files.

    Returns
    -------
    sqlite3.Connection
        `connection`, or the connection of the copy.
    """
    if not in_place:
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        connection.backup(copy)
        connection.close()
        connection = copy
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for step in range(version, FORMAT_VERSION):
            MIGRATIONS[step](connection)
        connection.execute(
            "UPDATE settings SET value = ? WHERE key = 'format_version'", (str(FORMAT_VERSION),)
        )
    return connection
