"""Files of metadata: CSV, JSON lines and Parquet tables with a row for each image."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from ..core.errors import MetadataError
from ..core.query.units import date_range
from ..core.types import PathLike

__all__ = ["KEYS", "MetadataTable", "read_metadata_file", "typed_table"]


KEYS = ("path", "file_name", "stem", "id")
"""Columns that say which image a row is about; the first that there is counts."""

_MAX_BYTES = 1 << 30
_MAX_COLUMNS = 64
_MAX_NAME = 64
_MAX_TEXT = 4096
_MAX_INTEGER = 1 << 63
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # a URL; drives of Windows have one letter
_FULL_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?)?")
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,18})")
_NUMBER = re.compile(r"-?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?")

Value = str | int | float | bool


@dataclass(frozen=True)
class MetadataTable:
    """Rows of metadata with typed columns.

    Parameters
    ----------
    key : str
        What the rows are keyed by: ``"path"``, ``"stem"`` or ``"id"``.
    columns : dict of str to str
        Type of each column, without the keys: ``integer``, ``number``, ``boolean``, ``date`` or
        ``text``.
    rows : list of (str, str or None, dict)
        The key; the id to give the image, if the file is keyed by something else; the values,
        without those that are missing.
    """

    key: str
    columns: dict[str, str]
    rows: list[tuple[str, str | None, dict[str, Value]]]


def read_metadata_file(path: PathLike) -> MetadataTable:
    """Read a file of metadata.

    Parameters
    ----------
    path : path
        ``.csv`` (with a header; UTF-8), ``.jsonl`` (an object in each line) or ``.parquet``. A
        column ``path`` or ``file_name`` is relative to the folder of the file.

    Raises
    ------
    MetadataError
        If the file cannot be read, has no key, or a column has values of several types.
    """
    file = Path(path)
    readers = {".csv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise MetadataError(f"{file} is not a file of metadata: use .csv, .jsonl or .parquet")
    try:
        if not file.is_file():
            raise MetadataError(f"{file} is not a file")
        if file.stat().st_size > _MAX_BYTES:
            raise MetadataError(f"{file} has more than {_MAX_BYTES >> 30} GiB; split it")
        return typed_table(reader(file), str(file), file.absolute().parent)
    except OSError as error:
        raise MetadataError(f"{file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise MetadataError(f"{file} is not in UTF-8; save it in that encoding") from error


def typed_table(
    records: Iterable[Mapping[str, Any]], name: str, folder: Path | None
) -> MetadataTable:
    """Return records as a table, each column with one type.

    Parameters
    ----------
    records : iterable of mappings
        One for each image; each has the same key. Values that are None or empty are missing.
    name : str
        For errors: where the records come from.
    folder : Path or None
        What paths are relative to; None leaves them as they are.

    Raises
    ------
    MetadataError
        If there is no key, or a column has values of several types.

    Examples
    --------
    >>> table = typed_table([{"stem": "a", "price": 3}, {"stem": "b", "price": 2.5}], "list", None)
    >>> table.key, table.columns
    ('stem', {'price': 'number'})
    """
    rows: list[tuple[str, str | None, dict[str, Value]]] = []
    columns: dict[str, str] = {}
    key: str | None = None
    for number, record in enumerate(records, 1):
        place = f"{name}, row {number}"
        if key is None:
            key = next((known for known in KEYS if known in record), None)
            if key is None:
                raise MetadataError(
                    f"{name} does not say which images its rows are about; it needs a column "
                    f"{', '.join(KEYS[:-1])} or {KEYS[-1]}"
                )
        given = _missing_removed(record)
        found = given.pop(key, None)
        if found is None:
            raise MetadataError(f"{place} has no {key}")
        own = _checked_id(given.pop("id"), place) if key != "id" and "id" in given else None
        values = {
            _checked_name(column, place): _checked(value, column, place)
            for column, value in given.items()
            if column not in KEYS
        }
        for column, value in values.items():
            columns[column] = _common_type(columns.get(column), _type_of(value), column, place)
        if len(columns) > _MAX_COLUMNS:
            raise MetadataError(f"{name} has more than {_MAX_COLUMNS} columns of metadata")
        rows.append((_key_text(key, found, folder), own, values))
    if key is None:
        raise MetadataError(f"{name} has no rows")
    for _, _, values in rows:
        for column, value in values.items():
            values[column] = _stored(value, columns[column])
    return MetadataTable("path" if key == "file_name" else key, columns, rows)


def _missing_removed(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(name): value
        for name, value in record.items()
        if value is not None
        and value != ""
        and not (isinstance(value, float) and math.isnan(value))
    }


def _checked_name(column: str, place: str) -> str:
    if not column.strip() or len(column) > _MAX_NAME or not column.isprintable() or "`" in column:
        raise MetadataError(
            f"{place} has a column {column[:_MAX_NAME]!r}; a name has at most {_MAX_NAME} "
            "printable characters"
        )
    return column


def _checked_id(given: object, place: str) -> str:
    own = str(given)
    if "\0" in own:  # a catalog with one counts as damaged
        raise MetadataError(f"the id of {place} has a zero byte")
    return own


def _checked(given: Any, column: str, place: str) -> Value:
    value: Value = given
    if hasattr(given, "item"):
        value = given.item()  # NumPy's scalars
    elif isinstance(given, (datetime, date)):
        value = given.isoformat()[:19]
    fits = isinstance(value, (bool, str)) or (
        isinstance(value, int) and -_MAX_INTEGER <= value < _MAX_INTEGER
    )
    if not fits and not (isinstance(value, float) and math.isfinite(value)):
        raise MetadataError(
            f"the column {column} of {place} has a {type(value).__name__} that is not a text, a "
            "number, a date, or true or false"
        )
    if isinstance(value, str) and (len(value) > _MAX_TEXT or "\0" in value):
        raise MetadataError(
            f"the column {column} of {place} has more than {_MAX_TEXT} characters, or a zero byte"
        )
    return value


def _type_of(value: Value) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    return "date" if _is_date(value) else "text"


def _common_type(known: str | None, new: str, column: str, place: str) -> str:
    both = {known or new, new}
    if len(both) == 1:
        return new
    if both == {"integer", "number"}:
        return "number"
    if both == {"date", "text"}:
        return "text"
    raise MetadataError(
        f"the column {column} of {place} has a value of type {new}, and earlier rows have "
        f"{known}; write all of them alike"
    )


def _stored(value: Value, kind: str) -> Value:
    if kind == "number" and not isinstance(value, str):
        return float(value)
    return date_range(value)[0] if kind == "date" and isinstance(value, str) else value


def _is_date(text: str) -> bool:
    if not _FULL_DATE.fullmatch(text):
        return False
    try:
        date_range(text)
    except ValueError:
        return False
    return True


def _key_text(key: str, value: Any, folder: Path | None) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    if key in ("path", "file_name") and folder is not None and not _ADDRESS.match(text):
        return os.path.normpath(folder / text)
    return text


def _csv_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV, whose columns get the narrowest type that fits all values."""
    with file.open(newline="", encoding="utf-8-sig") as lines:
        try:
            reader = csv.DictReader(lines, strict=True)
            rows = list(reader)
        except csv.Error as error:
            raise MetadataError(f"{file}, line {reader.line_num}: {error}") from error
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise MetadataError(f"{file}, line {number} has not as many values as the header")
    converters = {
        name: str if name in KEYS else _converter([row[name] for row in rows])
        for name in reader.fieldnames or ()
    }
    for row in rows:
        yield {name: converters[name](text) if text else None for name, text in row.items()}


def _converter(texts: list[str]) -> Any:
    given = [text for text in texts if text]
    if all(map(_INTEGER.fullmatch, given)) and all(abs(int(t)) < _MAX_INTEGER for t in given):
        return int
    if all(map(_NUMBER.fullmatch, given)):
        return float
    if all(text.lower() in ("true", "false") for text in given):
        return lambda text: text.lower() == "true"
    return str


def _json_rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise MetadataError(f"{file}, line {number} is not JSON ({error})") from error
            if not isinstance(record, dict):
                raise MetadataError(f"{file}, line {number} is not a JSON object")
            yield record


def _parquet_rows(file: Path) -> Iterator[dict[str, Any]]:
    import polars

    with file.open("rb") as opened:
        try:
            table = polars.read_parquet(opened)
        # Polars raises almost any error on damaged bytes, and one that is no Exception.
        except (Exception, polars.exceptions.PanicException) as error:
            raise MetadataError(f"{file} is not a Parquet file ({error})") from error
    yield from table.iter_rows(named=True)
