"""Comparing the files of a collection with what the catalog knows of them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ..core.addresses import archives_above, is_path, is_url
from ..core.paths import resolver
from ..core.reports import BuildOptions, SkippedFile
from ..core.types import RowKey
from ..data.images import TRANSIENT_REASONS
from ..data.reading import presence, size_and_time
from ..data.sources import Collection
from ..storage.catalog import Catalog
from ..storage.rows import KnownFile

__all__ = ["REMOVED", "Change", "Scan", "remember_mounts", "scan"]


REMOVED = "removed"
"""Reason in the catalog of files that the user removed from the index."""

_MOUNTS = "mount_points"
"""Setting of the catalog: the folders of the collection that were mount points."""

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
    unusable : list of SkippedFile
        Files that are skipped for the first time, because of their names.
    removed : list of SkippedFile
        Files that stay out because they were removed from the index.
    todo : list of str
        Files to read: new, or of another size or time.
    missing : set of str
        Images of the index that have been deleted from the folders.
    unreachable : set of str
        Images of the index that may exist, but cannot be looked up.
    outdated : list of str
        Skipped files that no longer exist and need not be reported again.
    replaced : dict of str to RowKey
        Where the regions of each content were stored that is embedded again, by content hash.
    undescribed : set of str
        Contents of which the catalog has the regions, and not what the photograph says: they were
        indexed by an earlier release, or their catalog was lost.
    """

    known: dict[str, KnownFile] = field(default_factory=dict)
    places: dict[str, RowKey] = field(default_factory=dict)
    unchanged: int = 0
    still_bad: list[SkippedFile] = field(default_factory=list)
    unusable: list[SkippedFile] = field(default_factory=list)
    removed: list[SkippedFile] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    unreachable: set[str] = field(default_factory=set)
    outdated: list[str] = field(default_factory=list)
    replaced: dict[str, RowKey] = field(default_factory=dict)
    undescribed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._paths_at: dict[RowKey, list[str]] = defaultdict(list)
        for path, file in self.known.items():
            self._paths_at[file.key].append(path)

    @property
    def to_keep(self) -> Container[str]:
        """The contents that need not be decoded; it grows with `places`."""
        return _Kept(self.places, self.undescribed)

    @cached_property
    def _to_read(self) -> frozenset[str]:
        return frozenset(self.todo)

    @property
    def found(self) -> int:
        """Number of files; each is counted once."""
        return self.unchanged + len(self.still_bad) + len(self.unusable) + len(self.todo)

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
        elif gone := next(filter(self._has_left, holders), None):
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

    def _has_left(self, path: str) -> bool:
        return path not in self.unreachable and presence(path) == "gone"


class _Kept(Container[str]):
    def __init__(self, places: Container[str], undescribed: Container[str]) -> None:
        self._places = places
        self._undescribed = undescribed

    def __contains__(self, content_hash: object) -> bool:
        return content_hash in self._places and content_hash not in self._undescribed


def scan(catalog: Catalog | None, collection: Collection, options: BuildOptions) -> Scan:
    """Compare files with the catalog by size and time, without reading them.

    Parameters
    ----------
    catalog : Catalog or None
        Of the index; None if there is none yet.
    collection : Collection
        The files found.
    options : BuildOptions
        Whether all files are read, whether removed images return, and whether an empty source is
        believed.
    """
    if catalog is None:
        return Scan(unusable=collection.unusable, todo=list(collection.paths))
    read_all = options.check_content or options.force
    with catalog.reading():
        found = Scan(catalog.known_files())
        bad = {file.path: file for file in catalog.skipped()}
    _sort_unusable(found, bad, collection.unusable, restore=options.restore)
    paths = _known_names(collection.paths, found.known, bad)
    for path, name in zip(paths, collection.paths, strict=True):
        known, failed = found.known.get(path), bad.get(path)
        if known is None and failed is None:
            found.todo.append(path)
            continue
        if failed is not None and failed.reason == REMOVED:
            if options.restore or name in collection.named:
                found.todo.append(path)
            else:
                found.removed.append(failed)
            continue
        state = size_and_time(path)
        # Of a URL, only reading it says whether it has changed.
        same = known is not None and (known[:2] == state or is_url(path))
        if same and not read_all:
            found.unchanged += 1
        elif known is not None and state[0] < 0 and presence(path) == "gone":
            found.missing.add(path)  # a list still names it
        elif failed is not None and not read_all and _still_bad(failed, *state):
            found.still_bad.append(failed)
        else:
            found.todo.append(path)
    _find_missing(found, bad, set(paths), collection, _absent(catalog, collection, options))
    if found.todo:
        rows = catalog.rows_by_content()
        found.places, found.replaced = ({}, rows) if options.force else (rows, {})
        found.undescribed = rows.keys() - catalog.described_contents()
    return found


def _sort_unusable(
    found: Scan, bad: dict[str, SkippedFile], files: Sequence[SkippedFile], *, restore: bool
) -> None:
    """Sort the files that cannot be used because of their names by what the catalog says."""
    for file in files:
        failed = bad.get(file.path)
        if failed is not None and failed.reason == REMOVED and not restore:
            found.removed.append(failed)
        elif failed is not None and failed.reason == file.reason:
            found.still_bad.append(file)
        else:
            found.unusable.append(file)


def remember_mounts(catalog: Catalog, collection: Collection, options: BuildOptions) -> None:
    """Record the mount points in a collection, so that a later build knows that one is missing."""
    before = _recorded_mounts(catalog)
    after = before | collection.mounts
    if options.allow_empty:
        after -= {*_below(before, tuple(map(_inside, collection.roots)))} - collection.mounts
    if after != before:
        catalog.set_setting(_MOUNTS, sorted(after))


def _known_names(
    paths: list[str], known: Mapping[str, object], bad: Mapping[str, object]
) -> list[str]:
    """Return `paths`, with the index's own name for each file that it knows through other links."""
    unknown = [path for path in paths if path not in known and path not in bad and is_path(path)]
    if not unknown or not (known or bad):
        return paths
    resolve, present = resolver(), set(paths)
    aliases = {resolve(path): path for path in (*known, *bad) if path not in present}
    renamed = {path: aliases.get(resolve(path), path) for path in unknown}
    return [renamed.get(path, path) for path in paths]


def _still_bad(file: SkippedFile, size: int, mtime_ns: int) -> bool:
    return file.reason not in TRANSIENT_REASONS and (file.size, file.mtime_ns) == (size, mtime_ns)


def _recorded_mounts(catalog: Catalog) -> set[str]:
    return catalog.parse_setting(_MOUNTS, lambda value: {str(path) for path in value or ()})


def _absent(catalog: Catalog, collection: Collection, options: BuildOptions) -> list[str]:
    """Return folders of the collection that look empty because nothing is mounted there."""
    if options.allow_empty:
        return []
    found = [*collection.paths, *(file.path for file in collection.unusable)]
    empty = [
        root
        for root in collection.roots
        if not any(path.startswith(_inside(root)) for path in found)
    ]
    return empty + sorted(_recorded_mounts(catalog) - collection.mounts)


def _find_missing(
    found: Scan,
    bad: dict[str, SkippedFile],
    present: set[str],
    collection: Collection,
    absent: list[str],
) -> None:
    """Record which images and skipped files below the searched folders have been deleted."""
    inside = tuple(map(_inside, collection.roots))
    empty = tuple(map(_inside, absent))
    searched = _below(found.known.keys() - present, inside)
    searched += _members(found.known.keys() - present, collection.archives)
    for path in searched:
        state = presence(path)
        if state == "gone":
            (found.unreachable if path.startswith(empty) else found.missing).add(path)
        elif state == "unknown":
            found.unreachable.add(path)
    skipped = {path for path, file in bad.items() if file.reason != REMOVED}
    skipped -= present | {file.path for file in collection.unusable}
    searched = _below(skipped, inside) + _members(skipped, collection.archives)
    found.outdated = [path for path in searched if presence(path) == "gone"]


def _below(paths: Iterable[str], inside: tuple[str, ...]) -> list[str]:
    return sorted(path for path in paths if path.startswith(inside))


def _members(paths: Iterable[str], archives: set[str]) -> list[str]:
    """Return the members of some archives, in order."""
    if not archives:
        return []
    return sorted(path for path in paths if not archives.isdisjoint(archives_above(path)))


def _inside(folder: str) -> str:
    return os.path.join(folder, "")  # noqa: PTH118
