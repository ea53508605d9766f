"""Comparing the files of a collection with what the catalog knows of them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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
    """

    known: dict[str, KnownFile] = field(default_factory=dict)
    places: dict[str, RowKey] = field(default_factory=dict)
    unchanged: int = 0
    still_bad: list[SkippedFile] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    outdated: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._paths_at: dict[RowKey, list[str]] = defaultdict(list)
        for path, file in self.known.items():
            self._paths_at[file.key].append(path)

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


def scan(catalog: Catalog, paths: Sequence[str], folders: Sequence[str]) -> Scan:
    """Compare files with the catalog by size and time, without reading them.

    Parameters
    ----------
    catalog : Catalog
        Of the index.
    paths : sequence of str
        The files found, as returned by :func:`retrieval_grounding.find_images`.
    folders : sequence of str
        Absolute paths of the folders that were searched.
    """
    with catalog.reading():
        found = Scan(catalog.known_files())
        bad = {file.path: file for file in catalog.skipped()}
    for path in paths:
        known, failed = found.known.get(path), bad.get(path)
        if known is None and failed is None:
            found.todo.append(path)
            continue
        size, mtime_ns = size_and_time(path)
        if known is not None and known[:2] == (size, mtime_ns):
            found.unchanged += 1
        elif known is not None and size < 0 and not os.path.lexists(path):
            found.missing.add(path)  # a list still names it
        elif failed is not None and _still_bad(failed, size, mtime_ns):
            found.still_bad.append(failed)
        else:
            found.todo.append(path)
    inside = tuple(os.path.join(folder, "") for folder in folders)  # noqa: PTH118
    present = set(paths)
    found.missing.update(_gone(found.known.keys() - present, inside))
    found.outdated = _gone(bad.keys() - present, inside)
    if found.todo:
        found.places = catalog.rows_by_content()
    return found


def _still_bad(file: SkippedFile, size: int, mtime_ns: int) -> bool:
    return file.reason not in TRANSIENT_REASONS and (file.size, file.mtime_ns) == (size, mtime_ns)


def _gone(paths: Iterable[str], inside: tuple[str, ...]) -> list[str]:
    return sorted(path for path in paths if path.startswith(inside) and not os.path.lexists(path))
