"""Comparing the files of a collection with what the catalog knows of them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ..core.reports import SkippedFile
from ..core.types import RowKey
from ..data.images import TRANSIENT_REASONS
from ..data.prefetch import size_and_time
from ..storage.catalog import Catalog
from ..storage.rows import KnownFile

__all__ = ["Change", "Scan", "scan"]


Change = Literal["unchanged", "added", "updated", "moved", "duplicates"]
"""What a build finds about a file; each is counted in its report."""


@dataclass
class Scan:
    """What has changed since the last build.

    Parameters
    ----------
    known : dict of str to KnownFile
        The images of the index, by path.
    places : dict of str to RowKey
        Where the regions of each content are stored, by content hash; the build adds new ones.
    unchanged : int
        Number of files that have not changed.
    still_bad : list of SkippedFile
        Files that were skipped before and have not changed.
    todo : list of str
        Files to read: new, or of another size or time.
    missing : set of str
        Images of the index that have been deleted from the folders.
    outdated : list of str
        Skipped files that no longer exist and need not be reported again.
    replaced : dict of str to RowKey
        Where the regions of each content were stored that is embedded again, by content hash.
    """

    known: dict[str, KnownFile] = field(default_factory=dict)
    places: dict[str, RowKey] = field(default_factory=dict)
    unchanged: int = 0
    still_bad: list[SkippedFile] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    outdated: list[str] = field(default_factory=list)
    replaced: dict[str, RowKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._paths_at: dict[RowKey, list[str]] = defaultdict(list)
        for path, file in self.known.items():
            self._paths_at[file.key].append(path)

    @cached_property
    def _to_read(self) -> frozenset[str]:
        return frozenset(self.todo)

    def assign(self, path: str, place: RowKey) -> tuple[Change, str | None]:
        """Record that a file's regions are stored at `place`.

        Returns
        -------
        Change
            What has changed about the file.
        str or None
            The former path of a moved image.
        """
        known, holders = self.known.get(path), self._paths_at[place]
        if known is not None and known.key == place:
            return "unchanged", None
        gone = None
        if known is not None:
            change: Change = "updated"
            self._paths_at[known.key].remove(path)
        elif gone := next((old for old in holders if not os.path.lexists(old)), None):
            change = "moved"
            holders.remove(gone)
            self.missing.discard(gone)
        else:
            change = "duplicates" if holders else "added"
        holders.append(path)
        return change, gone

    def copies(self, content_hash: str, place: RowKey) -> list[tuple[str, KnownFile]]:
        """Return the files to link to `place` as well, where a content was embedded again.

        They have the content, but the build does not name them.
        """
        former = self.replaced.pop(content_hash, None)
        if former is None:
            return []
        paths = [path for path in self._paths_at[former] if path not in self._to_read]
        for path in paths:
            self._paths_at[former].remove(path)
            self._paths_at[place].append(path)
            self.known[path] = KnownFile(*self.known[path][:2], *place)
        return [(path, self.known[path]) for path in paths]


def scan(
    catalog: Catalog,
    paths: Sequence[str],
    folders: Sequence[str],
    *,
    check_content: bool = False,
    force: bool = False,
) -> Scan:
    """Compare files with the catalog by size and time, without reading them.

    Parameters
    ----------
    catalog : Catalog
        Of the index.
    paths : sequence of str
        The files found, as returned by :func:`retrieval_grounding.find_images`.
    folders : sequence of str
        Absolute paths of the folders that were searched.
    check_content : bool
        Read every file, whether or not its size and time have changed.
    force : bool
        Read every file, and treat every content as new.
    """
    read_all = check_content or force
    with catalog.reading():
        found = Scan(catalog.known_files())
        bad = {file.path: file for file in catalog.skipped()}
    for path in paths:
        known, failed = found.known.get(path), bad.get(path)
        if known is None and failed is None:
            found.todo.append(path)
            continue
        size, mtime_ns = size_and_time(path)
        if known is not None and not read_all and known[:2] == (size, mtime_ns):
            found.unchanged += 1
        elif known is not None and size < 0 and not os.path.lexists(path):
            found.missing.add(path)  # a list still names it
        elif failed is not None and not read_all and _still_bad(failed, size, mtime_ns):
            found.still_bad.append(failed)
        else:
            found.todo.append(path)
    inside = tuple(os.path.join(folder, "") for folder in folders)  # noqa: PTH118
    present = set(paths)
    found.missing.update(_gone(found.known.keys() - present, inside))
    found.outdated = _gone(bad.keys() - present, inside)
    if found.todo:
        rows = catalog.rows_by_content()
        found.places, found.replaced = ({}, rows) if force else (rows, {})
    return found


def _still_bad(file: SkippedFile, size: int, mtime_ns: int) -> bool:
    return file.reason not in TRANSIENT_REASONS and (file.size, file.mtime_ns) == (size, mtime_ns)


def _gone(paths: Iterable[str], inside: tuple[str, ...]) -> list[str]:
    return sorted(path for path in paths if path.startswith(inside) and not os.path.lexists(path))
