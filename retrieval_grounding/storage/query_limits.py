"""Limits on what one statement may cost: no more than a file of its size can need."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

__all__ = ["QueryLimits"]

_STEPS_PER_TICK = 100_000
_STEPS_PER_BYTE = 2  # what a catalog needs is a twentieth of it
_FREE_STEPS = 5_000_000
_BYTES_PER_BYTE = 8
_FREE_BYTES = 1 << 22
_ROW_BYTES = 16
_BATCH_ROWS = 64


class QueryLimits:
    """Ends statements that take more steps or memory than the size of the file explains.

    In a damaged or hostile file, pages may point to each other in circles, or many pages to the
    same one, so that a few kilobytes hold more rows than anyone can read. All limits grow with the
    file, so that they are out of reach for sound files of any size.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    exceeded : bool
        Whether the last statement was ended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ticks = 0
        self.exceeded = False

    def attach(self, connection: sqlite3.Connection) -> None:
        """Watch the statements of a connection."""
        connection.set_progress_handler(self._tick, _STEPS_PER_TICK)

    def restart(self, statements: int = 1) -> None:
        """Begin with a statement, which may run several times."""
        steps = (_FREE_STEPS + _STEPS_PER_BYTE * self._size()) * statements
        self._ticks = steps // _STEPS_PER_TICK
        self.exceeded = False

    def fetch(self, cursor: sqlite3.Cursor) -> list[Any]:
        """Return all rows of a statement.

        Raises
        ------
        sqlite3.DataError
            If they are larger than the file explains.
        """
        rows: list[Any] = []
        room: int | None = None
        while batch := cursor.fetchmany(_BATCH_ROWS):
            rows += batch
            if room is None:
                room = _FREE_BYTES + _BYTES_PER_BYTE * self._size()
            for row in batch:
                room -= _ROW_BYTES
                for value in row:
                    if type(value) is str or type(value) is bytes:
                        room -= len(value)
            if room < 0:
                self.exceeded = True
                raise sqlite3.DataError("a query returns more than the file can hold")
        return rows

    def _tick(self) -> bool:
        self._ticks -= 1
        self.exceeded = self._ticks < 0
        return self.exceeded

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size  # noqa: PTH116 - called for every statement
        except OSError:  # the statement itself fails, and says why
            return 0
