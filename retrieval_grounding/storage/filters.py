"""Filters as SQL: fixed pieces of text, in which every name and value is a parameter.

Nothing that a user writes becomes part of a statement. Where a piece depends on a query, it is
chosen from the constants below.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from ..core.errors import QueryError
from ..core.query.filters import Filters
from ..core.query.units import date_range
from ..core.query.where import And, Comparison, Condition, Not, Or, parse_where

__all__ = ["BUILT_IN", "SqlCondition", "compile_filters"]


class SqlCondition(NamedTuple):
    """A condition on rows of ``images`` joined with ``shard_rows``.

    Parameters
    ----------
    sql : str
        Made of the constants of this module alone.
    values : tuple
        Its parameters, in order.
    effort : int
        How many times the steps of a plain scan it may take.
    """

    sql: str
    values: tuple[object, ...]
    effort: int = 1


_PHOTO = "(SELECT {} FROM photos WHERE photos.content_hash = shard_rows.content_hash)"
_FILE_DATE = (
    # Unknown if the file was seconds old when it was read, so that is when it was indexed.
    "CASE WHEN images.mtime_ns < 0 THEN '9999-12-31T00:00:00' ELSE "
    "strftime('%Y-%m-%dT%H:%M:%S', images.mtime_ns / 1000000000, 'unixepoch', 'localtime') END"
)
_DATE = f"COALESCE(NULLIF({_PHOTO.format('taken')}, ''), {_FILE_DATE})"

BUILT_IN: dict[str, tuple[str, str]] = {
    "path": ("text", "images.path"),
    "id": ("text", "(SELECT id FROM image_ids WHERE image_ids.path = images.path)"),
    "bytes": ("integer", "images.size"),
    "width": ("integer", "shard_rows.width"),
    "height": ("integer", "shard_rows.height"),
    "date": ("date", _DATE),
    "camera": ("text", f"NULLIF({_PHOTO.format('camera')}, '')"),
    "gps": ("boolean", _PHOTO.format("gps")),
}
"""Columns that every index has: their types and what they are in SQL."""

_METADATA = "(SELECT value FROM metadata WHERE metadata.path = images.path AND metadata.name = ?)"
_SIGNS = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_NUMBERS = ("integer", "number")
_EFFORT_PER_COMPARISON = 4


def compile_filters(filters: Filters, columns: Mapping[str, str]) -> SqlCondition | None:
    """Return the condition that the filters of images make; None if there are none.

    Parameters
    ----------
    filters : Filters
        Those of regions are ignored here.
    columns : mapping of str to str
        Types of the columns of the index's metadata.

    Raises
    ------
    QueryError
        If a condition names a column that there is not, or compares it with the wrong type.
    """
    parts: list[SqlCondition] = []
    if filters.folders:
        parts.append(_any_folder(filters.folders))
    if filters.without_folders:
        parts.append(_negated(_any_folder(filters.without_folders)))
    if filters.since is not None:
        parts.append(SqlCondition(f"{_DATE} >= ?", (date_range(filters.since)[0],), 2))
    if filters.until is not None:
        parts.append(SqlCondition(f"{_DATE} <= ?", (date_range(filters.until)[1],), 2))
    if filters.where is not None:
        parts.append(_Compiler(filters.where, columns).compile(parse_where(filters.where)))
    return _joined(parts, " AND ") if parts else None


def _any_folder(patterns: tuple[str, ...]) -> SqlCondition:
    globs = [_glob(pattern) for pattern in patterns]
    return _joined([SqlCondition("images.path GLOB ?", (glob,)) for glob in globs], " OR ")


def _glob(pattern: str) -> str:
    """Return SQLite's glob for everything below the folders that a pattern names.

    >>> _glob("2024/*") == _glob("2024")
    True
    """
    pattern = pattern.replace("/", os.sep)
    while pattern.endswith((os.sep, f"{os.sep}*", f"{os.sep}**")):
        pattern = pattern.rstrip("*").removesuffix(os.sep)
    if not os.path.isabs(pattern) and not pattern.startswith("*"):  # noqa: PTH117
        pattern = f"*{os.sep}{pattern}"
    return pattern.replace("[", "[[]") + f"{os.sep}*"


def _joined(parts: list[SqlCondition], operator: str) -> SqlCondition:
    return SqlCondition(
        operator.join(f"({part.sql})" for part in parts),
        tuple(value for part in parts for value in part.values),
        sum(part.effort for part in parts),
    )


def _negated(part: SqlCondition) -> SqlCondition:
    return SqlCondition(f"NOT ({part.sql})", part.values, part.effort)


class _Compiler:
    """Compiles the tree of a condition, and checks its types."""

    def __init__(self, text: str, columns: Mapping[str, str]) -> None:
        self._text = text
        self._columns = columns

    def compile(self, condition: Condition) -> SqlCondition:
        if isinstance(condition, Not):
            return _negated(self.compile(condition.condition))
        if isinstance(condition, (And, Or)):
            parts = [self.compile(condition.left), self.compile(condition.right)]
            return _joined(parts, " AND " if isinstance(condition, And) else " OR ")
        sql, values = self._comparison(condition)
        # A comparison with a missing value is false, not unknown, so that 'not' is its opposite.
        return SqlCondition(f"COALESCE({sql}, 0)", values, _EFFORT_PER_COMPARISON)

    def _comparison(self, comparison: Comparison) -> tuple[str, tuple[object, ...]]:
        kind, column, names = self._column(comparison)
        operator, values = comparison.operator, comparison.values
        if operator == "known":
            return f"{column} IS NOT NULL", names
        if operator == "like":
            if kind not in ("text", "date"):
                raise self._wrong(comparison, kind, "a text")
            return f"{column} LIKE ?", (*names, *values)
        checked = [self._checked(comparison, kind, value) for value in values]
        if kind == "date":
            return self._dates(operator, column, names, [str(value) for value in checked])
        if operator == "in":
            return f"{column} IN ({', '.join('?' * len(checked))})", (*names, *checked)
        return f"{column} {_SIGNS[operator]} ?", (*names, *checked)

    def _column(self, comparison: Comparison) -> tuple[str, str, tuple[str, ...]]:
        """Return the type of a column, its SQL and the parameters in it; the user's come first."""
        name = comparison.column
        if name in self._columns:
            return self._columns[name], _METADATA, (name,)
        if name in BUILT_IN:
            return (*BUILT_IN[name], ())
        known = ", ".join([*self._columns, *BUILT_IN])
        raise QueryError(
            f"there is no column {name}; there are {known}", self._text, comparison.position
        )

    def _checked(self, comparison: Comparison, kind: str, value: object) -> object:
        if kind == "boolean":
            if isinstance(value, bool) or value in (0, 1):
                return int(bool(value))
            raise self._wrong(comparison, kind, "true or false")
        if kind in _NUMBERS:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return value
            raise self._wrong(comparison, kind, "a number")
        if not isinstance(value, str):
            raise self._wrong(comparison, kind, "a quoted text")
        return value

    def _dates(
        self, operator: str, column: str, names: tuple[str, ...], dates: list[str]
    ) -> tuple[str, tuple[object, ...]]:
        """Compare a date with periods: ``= '2024-05'`` holds in all of May."""
        try:
            ranges = [date_range(date) for date in dates]
        except ValueError as error:
            raise QueryError(str(error)) from error
        if operator in ("=", "!=", "in"):
            inside = " OR ".join([f"{column} BETWEEN ? AND ?"] * len(ranges))
            values = [value for limits in ranges for value in (*names, *limits)]
            # Without a date, 'is not' holds no more than 'is'.
            return f"{'NOT ' if operator == '!=' else ''}({inside})", tuple(values)
        [(first, last)] = ranges
        limit = first if operator in (">=", "<") else last
        return f"{column} {_SIGNS[operator]} ?", (*names, limit)

    def _wrong(self, comparison: Comparison, kind: str, needed: str) -> QueryError:
        return QueryError(
            f"the column {comparison.column} holds {_NOUNS[kind]}, so compare it with {needed}",
            self._text,
            comparison.position,
        )


_NOUNS = {
    "integer": "numbers", "number": "numbers", "boolean": "true and false", "date": "dates",
    "text": "text",
}  # fmt: skip
