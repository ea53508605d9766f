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
    matcher : str or None
        Checksum of the matcher's file whose passes they are; None if there are none.
    useful : bool
        Whether that matcher uses them.
    checksums : mapping of int to str
        Those of the files, by shard.
    """

    matcher: str | None = None
    useful: bool = True
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
            "matcher": record.matcher,
            "useful": record.useful,
            "files": {str(shard): checksum for shard, checksum in record.checksums.items()},
        },
    )


def _parse(value: Any) -> PassRecord:
    if value is None:
        return PassRecord()
    matcher, files = value["matcher"], dict(value["files"])
    for checksum in ([] if matcher is None else [matcher]) + list(files.values()):
        if not isinstance(checksum, str) or _CHECKSUM.fullmatch(checksum) is None:
            raise ValueError("an impossible checksum of an image pass")
    return PassRecord(
        matcher, bool(value["useful"]), {int(shard): own for shard, own in files.items()}
    )
