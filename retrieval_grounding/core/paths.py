"""Paths as a shell means them: ``~``, ``..`` after links, and accents in either Unicode form."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from functools import cache

from .types import PathLike

__all__ = ["absolute_path", "existing_path", "expand_home", "is_gone", "resolver", "same_names"]


def expand_home(path: PathLike) -> str:
    """Return `path` with a leading ``~`` expanded, as in ``--index=~/x``, which shells leave as is.

    A name that begins with ``~`` and exists in the current folder means itself.
    """
    text = os.fspath(path)
    if not text.startswith("~") or os.path.lexists(text.split(os.sep)[0]):  # noqa: PTH206
        return text
    return os.path.expanduser(text)  # noqa: PTH111 - leaves unknown users as they are


def absolute_path(path: PathLike, base: str | None = None) -> str:
    """Return `path` as an absolute path that names what the system would open.

    Links stay as they are, except before ``..``: ``link/..`` is the parent of the folder that the
    link points to.

    Parameters
    ----------
    path : path
        Relative to `base`.
    base : str, optional
        An absolute path; the current folder if left out.
    """
    text = os.path.join(base or os.getcwd(), expand_home(path))  # noqa: PTH109, PTH118
    if os.name == "nt" or ".." not in text:  # Windows itself collapses '..' before it looks
        return os.path.abspath(text)  # noqa: PTH100 - keeps links
    done = os.sep
    for part in text.split(os.sep):  # noqa: PTH206
        if part == "..":
            folder = os.path.realpath(done) if os.path.islink(done) else done  # noqa: PTH114
            done = os.path.dirname(folder)  # noqa: PTH120
        elif part not in ("", "."):
            done = os.path.join(done, part)  # noqa: PTH118
    return done


def is_gone(path: str) -> bool:
    """Return whether the system says that nothing has this path.

    Any other failure (no permission, a stale network folder, a failing disk) proves nothing.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def same_names(path: str) -> list[str]:
    """Return `path` and its other Unicode forms: ``é`` as one character (NFC) and as two (NFD)."""
    if path.isascii():
        return [path]
    forms = (unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path))
    return list(dict.fromkeys((path, *forms)))


def existing_path(path: str) -> str | None:
    """Return an absolute path in the Unicode form in which it exists, or None if it does not."""
    for form in same_names(path):
        if os.path.lexists(form):
            return form
    if path.isascii():
        return None
    parent, name = os.path.split(path)  # the forms of folder and file may differ
    folder = existing_path(parent) if parent != path else None
    if folder is None:
        return None
    for form in same_names(name):
        if os.path.lexists(candidate := os.path.join(folder, form)):  # noqa: PTH118
            return candidate
    return None


def resolver() -> Callable[[str], str]:
    """Return a function that gives two paths of one file in the same folder the same name.

    It resolves links in the folder, not the file's own. It remembers folders, so use it only while
    they stay as they are.
    """
    real_folder = cache(os.path.realpath)

    def resolve(path: str) -> str:
        folder, name = os.path.split(path)
        return os.path.join(real_folder(folder), name)  # noqa: PTH118

    return resolve
