"""Reading expressions from JSON lines, plain or compressed, and from CSV."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ..core.errors import ExpressionError
from .records import Record

__all__ = ["read_csv", "read_jsonl"]


_CORNERS = ("x1", "y1", "x2", "y2")
_SIDES = ("x", "y", "w", "h")
_NUMBERS = frozenset((*_CORNERS, *_SIDES, "width", "height"))


_MAX_LINE_BYTES = 1 << 20
_MAX_RATIO = 100
_UNSUSPICIOUS_BYTES = 1 << 26
_MAX_UNPACKED_BYTES = 1 << 32


def read_jsonl(path: Path) -> Iterator[Record]:
    """Yield one record for each line that is not blank; ``.gz`` files are decompressed on the way.

    Raises
    ------
    ExpressionError
        If the file cannot be read or decompressed to its end, if a line has more than 1 MiB, or if
        a compressed file has more than 4 GiB or is more than 100 times as large as compressed.
    """
    packed = path.suffix.lower() == ".gz"
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            limit = _unpacked_limit(path) if packed else None
            for number, line in enumerate(_lines(path, file, limit), start=1):
                if line.strip():
                    yield _parse_line(f"line {number}", line)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExpressionError(f"{path} cannot be read: {reason}") from error


def _unpacked_limit(path: Path) -> int:
    """Return how many bytes a compressed file may contain; text has at most 30 times as many."""
    suspicious = max(_UNSUSPICIOUS_BYTES, _MAX_RATIO * path.stat().st_size)
    return min(_MAX_UNPACKED_BYTES, suspicious)


def _lines(path: Path, file: io.BufferedIOBase, limit: int | None) -> Iterator[bytes]:
    """Yield the lines of a file, of which only one is in memory."""
    total = 0
    while line := file.readline(_MAX_LINE_BYTES + 1):
        if len(line) > _MAX_LINE_BYTES:
            raise ExpressionError(
                f"{path} has a line of more than {_MAX_LINE_BYTES:,} bytes; write one expression "
                "per line"
            )
        total += len(line)
        if limit is not None and total > limit:
            raise ExpressionError(
                f"{path} contains more than {limit:,} bytes, too many for a file of its size; if "
                "that is right, decompress it first"
            )
        yield line


def _parse_line(location: str, line: bytes) -> Record:
    try:
        values = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Record(location, problem="not-utf-8")
    except (ValueError, RecursionError):  # also huge numbers and deeply nested brackets
        return Record(location, problem="not-json")
    if not isinstance(values, dict):
        return Record(location, problem="not-a-json-object")
    return Record(location, values)


def read_csv(path: Path) -> Iterator[Record]:
    """Yield one record for each row below the header.

    The columns are ``image``, ``expression``, and either ``x1, y1, x2, y2`` or ``x, y, w, h``.
    Optional columns are ``split``, ``dataset``, ``category``, ``object_id``, and the image's
    ``width`` and ``height``.

    Raises
    ------
    ExpressionError
        If the file cannot be read, or the header lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            boxes = _box_columns(path, rows.fieldnames or ())
            for row in rows:
                yield _parse_row(f"line {rows.line_num}", row, boxes)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ExpressionError(f"{path} cannot be read: {error}") from error


def _box_columns(path: Path, names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the names of the columns that hold boxes, by the key of the JSON lines format."""
    boxes: dict[str, tuple[str, ...]] = {"bbox_xyxy": _CORNERS, "bbox_xywh": _SIDES}
    found = {key: box for key, box in boxes.items() if set(names) >= {"image", "expression", *box}}
    if found:
        return found
    raise ExpressionError(
        f"the first line of {path} must name the columns image, expression and x1, y1, x2, y2 "
        "(or x, y, w, h)"
    )


def _parse_row(
    location: str, row: dict[str, str | None], boxes: dict[str, tuple[str, ...]]
) -> Record:
    values: dict[str, Any] = {}
    for name, text in row.items():
        if name is None or text is None:  # longer or shorter than the header
            return Record(location, problem="wrong-number-of-fields")
        if text:
            values[name] = _number(text) if name in _NUMBERS else text
    for key, columns in boxes.items():
        if any(name in values for name in columns):
            values[key] = [values.get(name) for name in columns]
    return Record(location, values)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
