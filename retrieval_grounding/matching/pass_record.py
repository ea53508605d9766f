"""Which image passes an index holds, as its catalog records them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..storage.catalog import Catalog

__all__ = ["PASS_FILES", "PASS_FOLDER", "PassRecord", "read_record", "write_record"]


PASS_FOLDER = "passes"

PASS_FILES = re.compile(r"(\d{6,})-[0-9a-f]{16}\.pass")
"""Names of the files; the group is the number of the shard."""

_SETTING = "image_passes"
_CHECKSUM = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class PassRecord:
    """The image passes of an index.

    Parameters
    ----------
    source : str or None
        What the matcher in use was read from: the checksum of its file, or its name.
    matcher : str or None
        Identity of that matcher, whose passes they are; None if it has none.
    checksums : mapping of int to str
        Those of the files, by shard.
    """

    source: str | None = None
    matcher: str | None = None
    checksums: Mapping[int, str] = field(default_factory=dict)

    def path(self, directory: Path, shard: int) -> Path:
        """Return where the pass of a shard lies in the folder of an index."""
        return directory / PASS_FOLDER / f"{shard:06d}-{(self.matcher or '')[:16]}.pass"


def read_record(catalog: Catalog) -> PassRecord:
    """Return what the catalog records.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    return catalog.parse_setting(_SETTING, _parse)


def write_record(catalog: Catalog, record: PassRecord) -> None:
    """Record the image passes of an index."""
    catalog.set_setting(
        _SETTING,
        {
            "source": record.source,
            "matcher": record.matcher,
            "files": {str(shard): checksum for shard, checksum in record.checksums.items()},
        },
    )


def _parse(value: Any) -> PassRecord:
    if value is None:
        return PassRecord()
    source, matcher, files = value["source"], value["matcher"], dict(value["files"])
    for checksum in ([] if matcher is None else [matcher]) + list(files.values()):
        if not isinstance(checksum, str) or _CHECKSUM.fullmatch(checksum) is None:
            raise ValueError("an impossible checksum of an image pass")
    return PassRecord(
        None if source is None else str(source),
        matcher,
        {int(shard): own for shard, own in files.items()},
    )
