"""Format versions of an index, and the steps from each to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

__all__ = ["FORMAT_VERSION", "MIGRATIONS", "migrate"]


FORMAT_VERSION = 1
"""What this release writes; it reads all versions up to it."""

MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {}
"""By version: the function that turns its catalog into one of the next version.

It runs inside a transaction, must not commit, and may not touch the shards: those are immutable,
and their reader knows all versions.
"""


def migrate(connection: sqlite3.Connection, version: int, *, in_place: bool) -> sqlite3.Connection:
    """Bring a catalog of an older version to the present one, in one transaction.

    Parameters
    ----------
    connection : sqlite3.Connection
        The catalog.
    version : int
        The version that it has.
    in_place : bool
        False leaves the file as it is and migrates a copy in memory: a reader may lack the right
        to write, and must not take the writer's place.

    Returns
    -------
    sqlite3.Connection
        `connection`, or that of the copy.
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
