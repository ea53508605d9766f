"""Searching a folder: every file with an image's name is found, or has a reason why not."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..core.errors import SourceError
from ..core.reports import SkippedFile
from .rules import IGNORE_FILE, IgnoreFile, Rules, read_ignore_file
from .suffixes import IMAGE_SUFFIXES, unsupported

__all__ = ["Findings", "Walker", "is_text"]


_Folder = tuple[str, str, tuple[IgnoreFile, ...]]
"""A folder to search, its real path, and the ignore files above it."""

_DETAILS = {
    "hidden": "its name starts with a dot; --include finds it",
    "machine-folder": "programs keep their own files there; --include searches it",
    "excluded": "--exclude names it",
    "ignored": f"a file {IGNORE_FILE} names it",
}


@dataclass
class Findings:
    """What a search has found so far. Keys are paths in which the links of folders are resolved.

    Parameters
    ----------
    files : dict of str to str
        Files to index, by key.
    unusable : dict of str to SkippedFile
        Files whose names say that they cannot be decoded, by key.
    left_out : dict of str to SkippedFile
        Folders and files that the search left out, by path.
    others : set of str
        Keys of files that do not have an image's name.
    folders : dict of str to str
        Folders that were searched, by key.
    mounts : set of str
        Those of them on which a different file system is mounted.
    """

    files: dict[str, str] = field(default_factory=dict)
    unusable: dict[str, SkippedFile] = field(default_factory=dict)
    left_out: dict[str, SkippedFile] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    folders: dict[str, str] = field(default_factory=dict)
    mounts: set[str] = field(default_factory=set)

    def add(self, key: str, path: str, *, chosen: bool = False) -> None:
        """Sort a file by its name; one that is `chosen` need not have the suffix of an image."""
        if key in self.files or key in self.unusable:
            return
        if not is_text(path):
            readable = os.fsencode(path).decode("utf-8", "backslashreplace")
            detail = "the file name is not UTF-8"
            self.unusable[key] = SkippedFile(readable, "undecodable-name", detail)
        elif (bad := unsupported(path, archives=chosen)) is not None:
            self.unusable[key] = bad
        else:
            self.files[key] = path

    def leave_out(self, path: str, reason: str, detail: str = "") -> None:
        """Record that a folder or file was left out."""
        readable = os.fsencode(path).decode("utf-8", "backslashreplace")
        self.left_out[path] = SkippedFile(readable, reason, detail or _DETAILS[reason])


class Walker:
    """Searches folders.

    Parameters
    ----------
    findings : Findings
        Gets what is found.
    rules : Rules
        What to leave out.
    index : str or None
        The real path of the index that is built, which is never searched.
    follow_links : bool
        Also search folders to which links point, each folder once.
    """

    def __init__(
        self, findings: Findings, rules: Rules, index: str | None, follow_links: bool
    ) -> None:
        self._found = findings
        self._rules = rules
        self._index = index
        self._follow_links = follow_links

    def search(self, root: str) -> None:
        """Search a folder and all below it, files before folders, both in order.

        Raises
        ------
        SourceError
            If too many files are open, or an ignore file cannot be read.
        """
        base = os.path.join(root, "")  # noqa: PTH118
        starts: list[_Folder] = [(root, os.path.realpath(root), ())]
        while starts:  # links come after everything else, so that they hide no folder's own name
            starts = [link for start in starts for link in self._search_tree(start, base)]

    def _search_tree(self, start: _Folder, base: str) -> list[_Folder]:
        """Search a folder without following links; return the links to folders in it."""
        links: list[_Folder] = []
        stack = [start]
        while stack:
            path, real, files = stack.pop()
            entries = self._open(path, real)
            if entries is None:
                continue
            if any(entry.name == IGNORE_FILE for entry in entries):
                own = read_ignore_file(path)
                files = (*files, own) if own else files
            folders = self._sort(entries, (path, real, files), base)
            for entry in reversed(folders):
                if not _is_link(entry):
                    stack.append((entry.path, os.path.join(real, entry.name), files))  # noqa: PTH118
            for entry in folders:
                if _is_link(entry) and self._follow_links:
                    links.append((entry.path, os.path.realpath(entry.path), files))
                elif _is_link(entry):
                    detail = "a link to a folder; --follow-links searches it"
                    self._found.leave_out(entry.path, "linked-folder", detail)
        return links

    def _open(self, path: str, real: str) -> list[os.DirEntry[str]] | None:
        """Return the entries of a folder, or None if it is not to be searched."""
        found = self._found
        if (known := found.folders.get(real)) is not None:
            if known != path:
                found.leave_out(path, "same-folder", f"another name of {known}")
            return None
        try:
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):  # not its own fault
                reason = f"folder {path!r} cannot be read: {error.strerror}"
                raise SourceError(reason) from error
            found.leave_out(path, "unreadable-folder", f"{error.strerror or error}")
            return None
        names = {entry.name for entry in entries if entry.name in ("catalog.sqlite", "shards")}
        if real == self._index or len(names) == 2:
            found.leave_out(path, "index-folder", "an index, not part of a collection")
            return None
        found.folders[real] = path
        if os.path.ismount(path):
            found.mounts.add(path)
        return entries

    def _sort(
        self, entries: Sequence[os.DirEntry[str]], folder: _Folder, base: str
    ) -> list[os.DirEntry[str]]:
        """Record the files in a folder, and return its folders that are to be searched."""
        path, real, files = folder
        found, rules = self._found, self._rules
        folders = []
        same, plain = path == real, path.isascii()
        prefix = os.path.join(real, "")  # noqa: PTH118
        for entry in entries:
            name, place = entry.name, entry.path
            if _is_folder(entry):
                reason = rules.reason(place, base, files, folder=True)
                if reason is None:
                    folders.append(entry)
                else:
                    found.leave_out(place, reason)
                continue
            key = place if same else prefix + name
            decodable = name[name.rfind(".") :].lower() in IMAGE_SUFFIXES
            if not decodable and unsupported(name) is None:
                found.others.add(key)
            elif (reason := rules.reason(place, base, files)) is not None:
                found.leave_out(place, reason)
            elif decodable and plain and name.isascii():  # nearly every file of a large collection
                found.files.setdefault(key, place)
            else:
                found.add(key, place)
        return folders


def is_text(path: str) -> bool:
    """Return whether a path can be written as UTF-8."""
    if path.isascii():
        return True
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link into a folder without permission, or a circle of links
        return False


def _is_link(entry: os.DirEntry[str]) -> bool:
    junction = getattr(entry, "is_junction", None)  # Windows, from Python 3.12
    return entry.is_symlink() or (junction is not None and junction())
