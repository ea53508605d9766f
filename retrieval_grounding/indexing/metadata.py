"""Storing metadata: rows of a table find their images by path, stem or id."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..core.errors import MetadataError
from ..core.paths import resolver
from ..data.metadata_file import MetadataTable, typed_table
from ..storage.catalog import Catalog
from ..storage.metadata import COLUMN_TYPES, MAX_COLUMNS, ColumnType, MetadataValue

__all__ = ["StoredMetadata", "store_metadata", "table_of", "with_addresses"]


class StoredMetadata(NamedTuple):
    """What became of a table of metadata.

    Parameters
    ----------
    images : int
        Images that have got metadata or an id.
    unmatched : list of str
        Keys of rows that are about no image of the index.
    """

    images: int
    unmatched: list[str]


def table_of(
    count: int,
    ids: Sequence[object] | None,
    metadata: Sequence[Mapping[str, Any]] | None,
) -> MetadataTable | None:
    """Return the table of lists with one entry for each of `count` images; None without lists.

    Rows are in the order of the lists. Their keys are numbers until :func:`with_addresses` says
    which images they are about.

    Raises
    ------
    MetadataError
        If a list is longer or shorter.
    """
    if ids is None and metadata is None:
        return None
    for name, given in (("ids", ids), ("metadata", metadata)):
        if given is not None and len(given) != count:
            raise MetadataError(
                f"{count} images were given with {len(given)} {name}; give one for each image"
            )
    records: list[dict[str, Any]] = (
        [{} for _ in range(count)] if metadata is None else [*map(dict, metadata)]
    )
    for number, record in enumerate(records):
        for key in ("file_name", "stem"):
            record.pop(key, None)
        record["path"] = str(number)
        if ids is not None:
            record["id"] = ids[number]
    return typed_table(records, "metadata", None) if records else None


def with_addresses(table: MetadataTable, addresses: Sequence[str]) -> MetadataTable:
    """Return a table about the images with these addresses, in the order of its rows."""
    rows = [(to, *row[1:]) for to, row in zip(addresses, table.rows, strict=True)]
    return replace(table, rows=rows)


def store_metadata(catalog: Catalog, table: MetadataTable) -> StoredMetadata:
    """Store a table in the catalog; the caller holds the writer's lock.

    Values of columns that the table has replace those that an image had, and others stay.

    Raises
    ------
    MetadataError
        If a column had values of another type before, or an id is given to two images.
    """
    columns = _joined_columns(catalog.columns(), table.columns)
    find = _finder(catalog, table.key)
    values: list[tuple[str, str, MetadataValue | None]] = []
    ids: dict[str, str] = {}
    described: set[str] = set()
    unmatched = []
    for key, own, given in table.rows:
        paths = find(key)
        if not paths:
            unmatched.append(key)
        described.update(paths)
        for path in paths:
            values += [(path, column, given.get(column)) for column in table.columns]
            if own is not None:
                ids[path] = own
    if described:
        catalog.set_metadata(columns, values, ids.items())
    return StoredMetadata(len(described), unmatched)


def _joined_columns(
    before: Mapping[str, ColumnType], new: Mapping[str, str]
) -> dict[str, ColumnType]:
    columns = dict(before)
    for name, given in new.items():
        kind = next(known for known in COLUMN_TYPES if known == given)
        known = before.get(name, kind)
        if {known, kind} == {"integer", "number"}:
            kind = "number"
        elif known == "text" and kind == "date":
            kind = "text"
        elif known != kind:
            raise MetadataError(
                f"the column {name} of the index has values of type {known}, and the new ones are "
                f"of type {kind}; use the same type or another name"
            )
        columns[name] = kind
    if len(columns) > MAX_COLUMNS:
        raise MetadataError(f"an index has at most {MAX_COLUMNS} columns of metadata")
    return columns


def _finder(catalog: Catalog, key: str) -> Any:
    """Return a function from a key to the paths of its images."""
    if key == "id":
        owners = catalog.paths_by_id()
        return lambda value: [owners[value]] if value in owners else []
    paths = list(catalog.known_files())
    if key == "stem":
        by_stem: dict[str, list[str]] = {}
        for path in paths:
            by_stem.setdefault(_stem(path), []).append(path)
        return lambda value: by_stem.get(value, [])
    return _path_finder(paths)


def _path_finder(paths: Iterable[str]) -> Any:
    known, resolve = frozenset(paths), resolver()
    aliases: dict[str, str] = {}

    def find(path: str) -> list[str]:
        if path in known:
            return [path]
        if not aliases:
            aliases.update({resolve(own): own for own in known})
        found = aliases.get(resolve(path))
        return [] if found is None else [found]

    return find


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]  # noqa: PTH119, PTH122 - for every image
