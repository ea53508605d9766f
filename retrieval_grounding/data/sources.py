"""Finding image files in folders, globs and lists."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..core.errors import SourceError
from ..core.types import PathLike

__all__ = ["IMAGE_SUFFIXES", "as_list", "find_images", "source_folders"]


IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")
)
"""Suffixes, in lower case, of the files to use in a folder."""


def as_list(paths: PathLike | Iterable[PathLike]) -> list[PathLike]:
    """Return one or several paths as a list."""
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


def find_images(sources: PathLike | Iterable[PathLike]) -> list[str]:
    """Return the absolute paths of all image files in `sources`, each once.

    Parameters
    ----------
    sources : path or iterable of paths
        Folders, image files with any suffix, glob patterns, and ``.txt`` files with one path per
        line, relative to the folder of the list. Folders are searched recursively for files with
        :data:`IMAGE_SUFFIXES`; hidden files and folders are ignored, and symbolic links to folders
        are not followed.

    Returns
    -------
    list of str
        In the order of the sources, sorted within a folder or pattern.

    Raises
    ------
    SourceError
        If a source does not exist or cannot be read, or no image is found.
    """
    found: dict[str, None] = {}
    for source in as_list(sources):
        found |= dict.fromkeys(_expand(os.fspath(source)))
    if not found:
        raise SourceError(
            "no image was found; name a folder with files such as "
            f"{', '.join(sorted(IMAGE_SUFFIXES)[:6])} …"
        )
    return list(found)


def source_folders(sources: PathLike | Iterable[PathLike]) -> list[str]:
    """Return the absolute folders in `sources`; for a pattern, the folder that contains it.

    An indexed file that is missing in one of them has been deleted. Files elsewhere may merely be
    on a drive that is not connected.
    """
    folders = []
    for source in as_list(sources):
        path = Path(source)
        while glob.has_magic(str(path)) and not path.exists():
            path = path.parent
        if path.is_dir():
            folders.append(os.path.abspath(path))  # noqa: PTH100 - keeps links
    return folders


def _expand(source: str) -> Iterator[str]:
    """Yield absolute paths without resolving links."""
    path = Path(source)
    if path.is_dir():
        yield from _walk(os.path.abspath(source))  # noqa: PTH100
    elif path.suffix.lower() == ".txt" and path.is_file():
        yield from map(os.path.abspath, _read_list(path))
    elif path.exists():
        yield os.path.abspath(source)  # noqa: PTH100
    elif glob.has_magic(source):
        matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207 - absolute patterns
        if not matches:
            raise SourceError(f"no file matches the pattern {source!r}")
        for match in matches:
            if Path(match).is_file() and Path(match).suffix.lower() in IMAGE_SUFFIXES:
                yield os.path.abspath(match)  # noqa: PTH100
    else:
        raise SourceError(f"{source!r} does not exist; name a folder, an image or a list of paths")


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder, onerror=_raise_source_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = os.path.join(parent, "")  # noqa: PTH118
        for name in sorted(files):  # plain strings, for speed in large collections
            suffix = name[name.rfind(".") :].lower()
            if suffix in IMAGE_SUFFIXES and name[0] != ".":
                yield prefix + name


def _raise_source_error(error: OSError) -> None:
    raise SourceError(f"folder {error.filename!r} cannot be read: {error.strerror}") from error


def _read_list(path: Path) -> Sequence[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"the list {str(path)!r} cannot be read: {error}") from error
    return [str(path.parent / line.strip()) for line in lines if line.strip()]
