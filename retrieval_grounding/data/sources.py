"""Finding the image files that folders, globs and lists name."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..core.addresses import ARCHIVE_SUFFIXES, is_url, split_member
from ..core.errors import ImageError, SourceError
from ..core.paths import absolute_path, existing_path, resolver, same_names
from ..core.reports import BuildOptions, SkippedFile
from ..core.text import counted
from ..core.types import PathLike
from .lists import read_list
from .reading import presence
from .rules import Rules
from .suffixes import IMAGE_SUFFIXES, suffix_of, unsupported
from .walk import Findings, Walker, is_text

__all__ = ["Collection", "as_list", "find_images", "search", "source_places"]


@dataclass(frozen=True)
class Collection:
    """The files that sources name.

    Parameters
    ----------
    paths : list of str
        Absolute paths of the files to index, each file once, in the order of the sources.
    unusable : list of SkippedFile
        Files whose names say that they cannot be decoded.
    left_out : list of SkippedFile
        Folders and files that were not searched, and why.
    other_files : int
        Number of files that do not have an image's name.
    roots : list of str
        Absolute paths of the folders that were searched; for a pattern, the folder above it. An
        indexed file that does not exist below one of them has been deleted; files elsewhere may
        be on a drive that is not connected.
    mounts : set of str
        Folders on which a different file system is mounted.
    named : set of str
        Those of `paths` that are sources themselves.
    archives : set of str
        Archives whose members are images of the collection. An indexed member that is not in the
        whole list of its archive has been deleted.
    """

    paths: list[str]
    unusable: list[SkippedFile]
    left_out: list[SkippedFile]
    other_files: int
    roots: list[str]
    mounts: set[str]
    named: set[str]
    archives: set[str] = field(default_factory=set)


def as_list(paths: PathLike | Iterable[PathLike]) -> list[PathLike]:
    """Return one or several paths as a list."""
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


def find_images(
    sources: PathLike | Iterable[PathLike],
    *,
    exclude: Iterable[str] = (),
    include: Iterable[str] = (),
    follow_links: bool = False,
) -> list[str]:
    """Return the addresses of all images in `sources`, each once.

    An address is the absolute path of a file; for a member of an archive, its path as if the
    archive were a folder (``/shards/0.tar/a.jpg``); or a URL.

    Parameters
    ----------
    sources : path or iterable of paths
        Folders, image files, URLs, ``.zip`` and ``.tar`` archives, glob patterns, and ``.txt``
        lists of all these (one on each line, or with NUL between them), relative to the folder of
        the list. Folders and archives are searched with all below them for files that have the
        suffix of an image, but not for archives; hidden files and folders, folders of machines such
        as ``@eaDir`` and ``node_modules``, indexes, and what a file ``.rgignore`` names are left
        out.
    exclude, include : iterable of str
        Patterns in the syntax of ``.gitignore``, relative to the folder that is searched: what to
        leave out, and what to search although it would be left out.
    follow_links : bool
        Also search folders to which links point; each folder is searched once.

    Returns
    -------
    list of str
        In the order of the sources, sorted within a folder or pattern.

    Raises
    ------
    SourceError
        If a source does not exist or cannot be read, or no image is found.
    """
    options = BuildOptions(
        exclude=tuple(exclude), include=tuple(include), follow_links=follow_links
    )
    return search(sources, options).paths


def search(
    sources: PathLike | Iterable[PathLike], options: BuildOptions, index: PathLike | None = None
) -> Collection:
    """Find the files that `sources` name; see :func:`find_images`.

    Parameters
    ----------
    sources : path or iterable of paths
        Where to search.
    options : BuildOptions
        What to leave out, and whether to follow links. If `allow_empty`, finding nothing is fine.
    index : path, optional
        The index that is built, whose folder is never searched.

    Raises
    ------
    SourceError
        If a source does not exist or cannot be read, or no image is found.
    """
    searched = _Search(options, index)
    for source in as_list(sources):
        searched.add(os.fspath(source))
    return searched.collection(allow_empty=options.allow_empty)


def source_places(source: PathLike) -> list[str]:
    """Return where the images of a source are: its folder, the file, or the paths in a list."""
    if is_url(os.fspath(source)):
        return [os.fspath(source)]
    path = existing_path(absolute_path(source))
    if path is None:
        return [_split_pattern(absolute_path(source))[0]]
    if suffix_of(path) == ".txt" and os.path.isfile(path):  # noqa: PTH113
        return read_list(path)
    return [path]


class _Search:
    """One search through several sources."""

    def __init__(self, options: BuildOptions, index: PathLike | None) -> None:
        self._found = Findings()
        self._rules = Rules(options.exclude, options.include)
        self._index = None if index is None else os.path.realpath(index)
        self._walker = Walker(self._found, self._rules, self._index, options.follow_links)
        self._roots: list[str] = []
        self._named: set[str] = set()
        self._archives: set[str] = set()
        self._resolve = resolver()

    def add(self, source: str) -> None:
        """Search one source."""
        if not source or "\0" in source:
            raise SourceError(
                "an empty path names no images; write . for the current folder"
                if not source
                else f"{source!r} contains NUL and names no file"
            )
        if is_url(source):
            self._named.add(source)
            self._add_url(source)
            return
        path = existing_path(absolute_path(source))
        if path is None and split_member(absolute_path(source)):
            self._add_member(absolute_path(source))
        elif path is None:
            self._add_pattern(source)
        elif os.path.isdir(path):  # noqa: PTH112
            self._roots.append(path)
            self._walker.search(path)
        elif suffix_of(path) == ".txt" and os.path.isfile(path):  # noqa: PTH113
            self._add_list(source, path)
        else:
            self._named.add(path)
            self._add_chosen(path, os.path.dirname(path))  # noqa: PTH120

    def _add_list(self, source: str, path: str) -> None:
        entries = read_list(path)
        if entries and all(presence(entry) == "gone" for entry in entries):
            raise SourceError(
                f"none of the {counted(len(entries), 'path')} in the list {source!r} exists, the "
                f"first being {entries[0]!r}; write one path on each line"
            )
        for entry in entries:
            self._add_chosen(entry, os.path.dirname(path))  # noqa: PTH120

    def _add_pattern(self, source: str) -> None:
        if not glob.has_magic(source):
            self._raise_missing(source)
        base, pattern = _split_pattern(absolute_path(source))
        forms = [
            form for text in (pattern, pattern.replace("[", "[[]")) for form in same_names(text)
        ]
        matches: list[str] = []
        for form in forms:
            matches = sorted(glob.glob(form, root_dir=base, recursive=True))  # noqa: PTH207
            if matches:
                break
        if not matches:
            raise SourceError(f"no file matches the pattern {source!r}")
        self._roots.append(base)
        for match in matches:
            path = os.path.join(base, match)  # noqa: PTH118
            if os.path.isdir(path):  # noqa: PTH112
                self._walker.search(path.rstrip(os.sep))
            elif suffix_of(path) in ARCHIVE_SUFFIXES:
                self._add_chosen(path, base)
            elif suffix_of(path) in IMAGE_SUFFIXES or unsupported(path):
                self._add_file(path, base)
            else:
                self._found.others.add(self._resolve(path))

    def _add_chosen(self, path: str, base: str) -> None:
        """Add a file or URL that the user has chosen, whatever its suffix."""
        if is_url(path):
            self._add_url(path)
        elif suffix_of(path) in ARCHIVE_SUFFIXES and os.path.isfile(path):  # noqa: PTH113
            self._add_archive(path, base)
        else:
            self._add_file(path, base, chosen=True)

    def _add_url(self, url: str) -> None:
        if url.lower().endswith(ARCHIVE_SUFFIXES):
            detail = "archives are read from disk; download it"
            self._found.unusable[url] = SkippedFile(url, "archive-not-supported", detail)
        elif is_text(url):
            self._found.files.setdefault(url, url)
        else:
            self._found.add(url, url)  # reports the name

    def _add_member(self, path: str) -> None:
        self._named.add(path)
        self._found.add(self._resolve(path), path, chosen=True)

    def _add_archive(self, path: str, base: str) -> None:
        if self._rules.excludes(path, os.path.join(base, "")):  # noqa: PTH118
            self._found.leave_out(path, "excluded")
            return
        from .members import list_members  # not needed by most, and not by queries

        key = self._resolve(path)
        try:
            list_members(path, key, self._found, self._rules)
        except ImageError as error:
            self._found.unusable[key] = SkippedFile(path, error.reason, error.detail)
        self._archives.add(path)

    def _add_file(self, path: str, base: str, *, chosen: bool = False) -> None:
        key = self._resolve(path)
        if self._rules.excludes(path, os.path.join(base, "")):  # noqa: PTH118
            self._found.leave_out(path, "excluded")
        elif self._index and key.startswith(os.path.join(self._index, "")):  # noqa: PTH118
            self._found.leave_out(path, "index-folder", "part of the index that is built")
        else:
            self._found.add(key, path, chosen=chosen)

    def _raise_missing(self, source: str) -> None:
        try:
            os.lstat(absolute_path(source))
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise SourceError(f"{source!r} cannot be read: {error.strerror}") from error
        raise SourceError(f"{source!r} does not exist; name a folder, an image or a list of paths")

    def collection(self, *, allow_empty: bool) -> Collection:
        """Return everything that was found; raise :class:`SourceError` if it is nothing."""
        found = self._found
        if not found.files and not allow_empty:
            raise SourceError(_nothing(found))
        for key in found.files.keys() & found.others:
            found.others.discard(key)
        return Collection(
            list(found.files.values()),
            list(found.unusable.values()),
            list(found.left_out.values()),
            len(found.others),
            self._roots,
            found.mounts,
            self._named,
            self._archives,
        )


def _nothing(found: Findings) -> str:
    """Return a sentence that says why no image was found, and what there was instead."""
    if found.unusable:
        number = counted(len(found.unusable), "file")
        detail = next(iter(found.unusable.values())).detail
        return f"no image was found; {number} cannot be used ({_counts(found.unusable)}): {detail}"
    if found.left_out:
        first = next(iter(found.left_out.values()))
        return (
            f"no image was found; left out: {_counts(found.left_out)}, the first being "
            f"{first.path!r} ({first.detail})"
        )
    others = f" among {counted(len(found.others), 'file')}" if found.others else ""
    if any(suffix_of(path) in ARCHIVE_SUFFIXES for path in found.others):
        return f"no image was found{others}; archives are searched if they are named, as in *.tar"
    return (
        f"no image was found{others}; name a folder with files such as "
        f"{', '.join(sorted(IMAGE_SUFFIXES)[:6])} …"
    )


def _counts(files: dict[str, SkippedFile]) -> str:
    reasons = Counter(file.reason for file in files.values())
    return ", ".join(f"{number:,} {reason}" for reason, number in reasons.most_common())


def _split_pattern(path: str) -> tuple[str, str]:
    """Split an absolute pattern into the folder that exists as it is written, and the rest.

    So a folder that is called ``trip [2024]`` is that folder, not a pattern.
    """
    parts = path.split(os.sep)  # noqa: PTH206
    base = parts[0] + os.sep
    for number, part in enumerate(parts[1:], 1):
        longer = existing_path(os.path.join(base, part))  # noqa: PTH118
        if longer is None or not os.path.isdir(longer):  # noqa: PTH112
            return base, os.sep.join(parts[number:])  # noqa: PTH118
        base = longer
    return base, ""
