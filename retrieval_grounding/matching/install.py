"""The matchers' files in an index: installed, chosen, removed; the catalog has the checksums."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import GroundingError, StoreError
from ..storage.catalog import Catalog
from ..storage.files import as_store_error, atomic_write_bytes, file_checksum, sync_folder
from .names import BUNDLED, COSINE, COSINE_LABEL, FOLDER, matcher_files, name_of_file, own_names

__all__ = [
    "CHECKPOINT_FILE",
    "choose_matcher",
    "chosen_matcher",
    "forget_files",
    "install_files",
    "recorded_checksums",
    "remove_matcher",
]


CHECKPOINT_FILE = "matcher.training"

_CHECKSUMS, _CHOSEN = "matcher", "matcher_in_use"


def recorded_checksums(catalog: Catalog) -> dict[str, list[str]]:
    """Return the checksums that each file of a matcher may have, by its path in the index.

    A file that no release has recorded is missing. There are two for a file that a killed training
    may or may not have replaced.

    Raises
    ------
    StoreError
        If the setting is damaged.
    """
    return catalog.parse_setting(_CHECKSUMS, _parse_checksums)


def chosen_matcher(catalog: Catalog) -> str | None:
    """Return the name of the matcher that training or the user has chosen, or None.

    Raises
    ------
    StoreError
        If the setting is damaged.
    """
    return catalog.parse_setting(_CHOSEN, _parse_choice)


def choose_matcher(catalog: Catalog, name: str | None) -> None:
    """Choose the matcher to use, or leave it to the index; the caller holds the writer's lock.

    Raises
    ------
    GroundingError
        If the index has no matcher of that name.
    """
    if name is not None:
        _check_exists(catalog.directory, name, (BUNDLED, COSINE, COSINE_LABEL))
    catalog.set_setting(_CHOSEN, name)


def install_files(directory: Path, files: Mapping[str, bytes], use: str | None = None) -> None:
    """Write files of matchers and record their checksums; the caller holds the writer's lock.

    A crash at any moment leaves the old or the new file, and its checksum in the catalog.

    Parameters
    ----------
    directory : Path
        The index.
    files : mapping of str to bytes
        By path in the index.
    use : str, optional
        The matcher to use from now on.
    """
    with contextlib.closing(Catalog(directory, writable=True)) as catalog:
        recorded = recorded_checksums(catalog)
        new = {name: file_checksum(io.BytesIO(data)) for name, data in files.items()}
        replaced = {name: _checksums_on_disk(directory / name) for name in files}
        either = {name: [*replaced[name], new[name]] for name in files}
        catalog.set_setting(_CHECKSUMS, recorded | either)
        for name, data in files.items():
            with as_store_error(directory / name):
                _make_folder((directory / name).parent)
                atomic_write_bytes(directory / name, data)
        catalog.set_setting(_CHECKSUMS, recorded | {name: [sum_] for name, sum_ in new.items()})
        if use is not None:
            catalog.set_setting(_CHOSEN, use)


def remove_matcher(catalog: Catalog, name: str) -> None:
    """Delete a matcher of an index; the caller holds the writer's lock.

    If it was in use, the index uses the bundled matcher or cosine from now on.

    Raises
    ------
    GroundingError
        If the index has no matcher of that name.
    """
    _check_exists(catalog.directory, name, ())
    forget_files(catalog, matcher_files(name))
    for file in matcher_files(name):
        path = catalog.directory / file
        with as_store_error(path):
            path.unlink(missing_ok=True)


def forget_files(catalog: Catalog, files: Iterable[str] | None = None) -> None:
    """Forget the recorded checksums of files, or of all; the caller moves or deletes them.

    A matcher whose weights are among them is no longer chosen.
    """
    gone = None if files is None else set(files)
    if gone is None:
        catalog.set_setting(_CHECKSUMS, None)
        catalog.set_setting(_CHOSEN, None)
        return
    if chosen_matcher(catalog) in {name_of_file(file) for file in gone} - {None}:
        catalog.set_setting(_CHOSEN, None)
    kept = {name: sums for name, sums in recorded_checksums(catalog).items() if name not in gone}
    catalog.set_setting(_CHECKSUMS, kept or None)


def _check_exists(directory: Path, name: str, built_in: Iterable[str]) -> None:
    known = [*built_in, *own_names(directory)]
    if name not in known:
        named = f"it has {', '.join(known)}" if known else "it has none of its own"
        raise GroundingError(f"{directory} has no matcher {name!r} of that kind; {named}")


def _make_folder(folder: Path) -> None:
    if folder.name == FOLDER:
        if folder.is_symlink():
            raise StoreError(
                f"{folder} is a link, and an index is written only where it is; move what it "
                "points to into its place"
            )
        if not folder.is_dir():
            folder.mkdir()
            sync_folder(folder.parent)


def _checksums_on_disk(path: Path) -> list[str]:
    try:
        return [file_checksum(path)] if path.is_file() else []
    except OSError:  # it cannot be read, and will be replaced
        return []


def _parse_checksums(value: Any) -> dict[str, list[str]]:
    found = {}
    for name, checksums in dict(value or {}).items():
        if not isinstance(checksums, list) or not all(isinstance(c, str) for c in checksums):
            raise TypeError("the checksums of the matcher's files are not a list of texts")
        found[str(name)] = list(checksums)
    return found


def _parse_choice(value: Any) -> str | None:
    if value is None or value in (BUNDLED, COSINE, COSINE_LABEL):
        return None if value is None else str(value)
    if not isinstance(value, str) or name_of_file(matcher_files(value)[0]) != value:
        raise TypeError("the matcher in use has an impossible name")
    return value
