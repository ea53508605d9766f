"""Rules about what to leave out of a collection: machines' folders, globs and ignore files."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from ..core.errors import SourceError

__all__ = ["IGNORE_FILE", "IgnoreFile", "Rules", "read_ignore_file"]


IGNORE_FILE = ".rgignore"
"""Name of the file whose patterns, in the syntax of ``.gitignore``, leave out what is below it."""

_MACHINE_FOLDERS = frozenset(
    "@eadir @recycle @recently-snapshot @tmp #recycle #snapshot $recycle.bin "
    "__macosx __pycache__ node_modules".split()
) | {"system volume information"}


@dataclass(frozen=True)
class IgnoreFile:
    """An ignore file: the folder that it is in, with a separator at the end, and its patterns."""

    folder: str
    patterns: GitIgnoreSpec


class Rules:
    """Decides what to leave out of a folder.

    The first of these that says something decides: `include`, `exclude`, the ignore files from the
    innermost outwards, and what is left out by default, which is hidden files and folders and the
    folders of machines.

    Parameters
    ----------
    exclude, include : iterable of str
        Patterns in the syntax of ``.gitignore``, relative to the folder that is searched.

    Raises
    ------
    SourceError
        If a pattern is not valid.
    """

    def __init__(self, exclude: Iterable[str] = (), include: Iterable[str] = ()) -> None:
        self._exclude = _compile(exclude, "--exclude")
        self._include = _compile(include, "--include")
        self._plain = not (self._exclude or self._include)

    def reason(
        self, path: str, root: str, files: Sequence[IgnoreFile], *, folder: bool = False
    ) -> str | None:
        """Return why to leave out a file or folder, or None to keep it.

        Parameters
        ----------
        path : str
            Absolute path.
        root : str
            The folder that is searched, with a separator at the end.
        files : sequence of IgnoreFile
            Those above `path`, the innermost last.
        folder : bool
            Whether it is a folder.
        """
        name = path[path.rfind(os.sep) + 1 :]
        if self._plain and not files:  # as for nearly every file
            return _default(name, folder)
        end = "/" if folder else ""
        if self._include and _says(self._include, path, root, end):
            return None
        if self._exclude and _says(self._exclude, path, root, end):
            return "excluded"
        for file in reversed(files):
            said = _says(file.patterns, path, file.folder, end)
            if said is not None:
                return "ignored" if said else None
        return _default(name, folder)

    def excludes(self, path: str, base: str) -> bool:
        """Return whether `exclude` names a file that was not found in a folder but in a list."""
        if not self._exclude:
            return False
        kept = self._include is not None and _says(self._include, path, base, "")
        return not kept and bool(_says(self._exclude, path, base, ""))


def read_ignore_file(folder: str) -> IgnoreFile | None:
    """Return the ignore file of a folder, or None if it is not a regular file.

    Raises
    ------
    SourceError
        If it cannot be read, because then nobody knows what to leave out.
    """
    path = Path(folder) / IGNORE_FILE
    if not path.is_file():
        return None
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise SourceError(f"the ignore file {path} cannot be read: {error.strerror}") from error
    patterns = _compile(text.replace("\r\n", "\n").split("\n"), str(path))
    return IgnoreFile(os.path.join(folder, ""), patterns) if patterns else None  # noqa: PTH118


def _compile(patterns: Iterable[str], origin: str) -> GitIgnoreSpec | None:
    lines = [unicodedata.normalize("NFC", pattern) for pattern in patterns]
    if not any(line.strip() for line in lines):
        return None
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise SourceError(
            f"{origin} has a pattern that is not valid in the syntax of .gitignore: {error}"
        ) from error


def _says(patterns: GitIgnoreSpec, path: str, base: str, end: str) -> bool | None:
    """Return whether the last pattern that matches leaves `path` out; None if none matches."""
    inside = path[len(base) :] if path.startswith(base) else path.lstrip(os.sep)
    relative = unicodedata.normalize("NFC", inside.replace(os.sep, "/"))
    return patterns.check_file(relative + end).include


def _default(name: str, folder: bool) -> str | None:
    if name.startswith("."):
        return "hidden"
    return "machine-folder" if folder and name.lower() in _MACHINE_FOLDERS else None
