"""The tables of a catalog in the current format; docs/index-format.md describes them."""

from __future__ import annotations

__all__ = ["ADDED_IN_VERSION_2", "OLDER_SCHEMAS", "SCHEMA"]


# A file is recognized by the very text of these statements, so even their layout must not change
# without a new format version; the old text then moves to OLDER_SCHEMAS.
#
# A rollback journal instead of a write-ahead log, which needs shared memory (missing on network
# folders) and write access even for readers.
_VERSION_1 = """
PRAGMA journal_mode = DELETE;
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE shards (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    file TEXT NOT NULL UNIQUE,
    images INTEGER NOT NULL,
    regions INTEGER NOT NULL,
    checksum TEXT NOT NULL
);
CREATE TABLE shard_rows (
    shard INTEGER NOT NULL REFERENCES shards (id),
    row INTEGER NOT NULL,
    content_hash TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    first_region INTEGER NOT NULL,
    regions INTEGER NOT NULL,
    checksum TEXT NOT NULL,
    PRIMARY KEY (shard, row)
) WITHOUT ROWID;
CREATE INDEX shard_rows_by_content ON shard_rows (content_hash);
CREATE TABLE images (
    path TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    row INTEGER NOT NULL,
    FOREIGN KEY (shard, row) REFERENCES shard_rows (shard, row)
);
CREATE INDEX images_by_row ON images (shard, row);
CREATE TABLE skipped (
    path TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL
);
"""

ADDED_IN_VERSION_2 = (
    """
CREATE TABLE photos (
    content_hash TEXT PRIMARY KEY,
    taken TEXT NOT NULL,
    camera TEXT NOT NULL,
    gps INTEGER NOT NULL,
    looks TEXT NOT NULL
) WITHOUT ROWID""",
    """
CREATE TABLE image_ids (
    path TEXT PRIMARY KEY REFERENCES images (path),
    id TEXT NOT NULL UNIQUE
) WITHOUT ROWID""",
    """
CREATE TABLE columns (name TEXT PRIMARY KEY, type TEXT NOT NULL) WITHOUT ROWID""",
    """
CREATE TABLE metadata (
    path TEXT NOT NULL REFERENCES images (path),
    name TEXT NOT NULL REFERENCES columns (name),
    value NOT NULL,
    PRIMARY KEY (path, name)
) WITHOUT ROWID""",
)
"""What the migration from version 1 executes, one statement after the other."""

SCHEMA = ";".join((_VERSION_1.strip().removesuffix(";"), *ADDED_IN_VERSION_2)) + ";"
"""The tables of the current format."""

OLDER_SCHEMAS: tuple[str, ...] = (_VERSION_1,)
"""The tables of older formats, as they were created then."""
