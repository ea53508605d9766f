"""Hits as tables: pandas, CSV and Parquet, with one row per hit."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...core.hits import Hit
from .optional import import_library

if TYPE_CHECKING:
    import pandas

__all__ = ["csv_bytes", "hit_columns", "hit_row", "parquet_bytes", "to_frame"]

_KINDS: dict[str, type] = {
    "phrase": str, "image": str, "x1": float, "y1": float, "x2": float, "y2": float,
    "score": float, "probability": float, "label": str, "label_score": float,
    "image_width": int, "image_height": int, "region_id": int, "content_hash": str,
}  # fmt: skip


def hit_columns() -> list[str]:
    """Return the names of the columns: the fields of a hit, with box and size in parts.

    Examples
    --------
    >>> hit_columns()[:7]
    ['phrase', 'image', 'x1', 'y1', 'x2', 'y2', 'score']
    """
    return list(_KINDS)


def hit_row(hit: Hit) -> dict[str, Any]:
    """Return the values of the columns for one hit."""
    parts: dict[str, Any] = dict(zip(("x1", "y1", "x2", "y2"), hit.box, strict=True))
    size = hit.image_size or (None, None)
    parts |= {"image_width": size[0], "image_height": size[1]}
    return {name: parts[name] if name in parts else getattr(hit, name) for name in _KINDS}


def to_frame(hits: Sequence[Hit]) -> pandas.DataFrame:
    """Return hits as a pandas table with the columns of :func:`hit_columns`.

    Raises
    ------
    GroundingError
        If pandas is not installed.
    """
    library = import_library("pandas")
    rows = [hit_row(hit) for hit in hits]
    frame: pandas.DataFrame = library.DataFrame(rows, columns=hit_columns())
    # Integers with gaps would become floats, which cannot hold every region id.
    whole = {name: "Int64" for name, kind in _KINDS.items() if kind is int}
    return frame.astype(whole)


def csv_bytes(hits: Sequence[Hit]) -> bytes:
    """Return hits as CSV in UTF-8 with a header; unknown values are empty.

    Bytes of a path that are not valid UTF-8 are escaped, as in JSON.
    """
    text = io.StringIO(newline="")
    # All text is quoted, since csv quotes a carriage return only if lines end in one.
    columns = hit_columns()
    writer = csv.DictWriter(text, columns, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    writer.writerows(hit_row(hit) for hit in hits)
    return text.getvalue().encode("utf-8", "backslashreplace")


def parquet_bytes(hits: Sequence[Hit]) -> bytes:
    """Return hits as a Parquet file; unknown values are null, paths are escaped as in CSV."""
    import polars

    rows = [{name: _valid(value) for name, value in hit_row(hit).items()} for hit in hits]
    file = io.BytesIO()
    polars.DataFrame(rows, schema=_KINDS).write_parquet(file)
    return file.getvalue()


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value
