"""The matcher's files in an index, whose checksums the catalog records."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..storage.catalog import Catalog
from ..storage.files import as_store_error, atomic_write_bytes, file_checksum

__all__ = [
    "CHECKPOINT_FILE",
    "CURVE_FILES",
    "MATCHER_FILE",
    "forget_files",
    "install_files",
    "recorded_checksums",
]


MATCHER_FILE = "matcher.safetensors"
CHECKPOINT_FILE = "matcher.training"
CURVE_FILES = ("matcher-curve.csv", "matcher-curve.png")

_SETTING = "matcher"


def recorded_checksums(catalog: Catalog) -> dict[str, list[str]]:
    """Return the checksums that each file of the matcher may have, by its name.

    A file that no release has recorded is missing. There are two for a file that a killed training
    may or may not have replaced.

    Raises
    ------
    StoreError
        If the setting is damaged.
    """
    return catalog.parse_setting(_SETTING, _parse)


def install_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write the matcher's files and record their checksums; the caller holds the writer's lock.

    A crash at any moment leaves the old or the new file, and its checksum in the catalog.
    """
    with contextlib.closing(Catalog(directory, writable=True)) as catalog:
        new = {name: file_checksum(io.BytesIO(data)) for name, data in files.items()}
        replaced = {name: _checksums_on_disk(directory / name) for name in files}
        catalog.set_setting(_SETTING, {name: [*replaced[name], new[name]] for name in files})
        for name, data in files.items():
            with as_store_error(directory / name):
                atomic_write_bytes(directory / name, data)
        catalog.set_setting(_SETTING, {name: [checksum] for name, checksum in new.items()})


def forget_files(catalog: Catalog) -> None:
    """Forget the recorded checksums; the caller has moved the files away."""
    catalog.set_setting(_SETTING, None)


def _checksums_on_disk(path: Path) -> list[str]:
    try:
        return [file_checksum(path)] if path.is_file() else []
    except OSError:  # it cannot be read, and will be replaced
        return []


def _parse(value: Any) -> dict[str, list[str]]:
    found = {}
    for name, checksums in dict(value or {}).items():
        if not isinstance(checksums, list) or not all(isinstance(c, str) for c in checksums):
            raise TypeError("the checksums of the matcher's files are not a list of texts")
        found[str(name)] = list(checksums)
    return found
