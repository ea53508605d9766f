"""Names of matchers, and the files in which an index keeps those of its own."""

from __future__ import annotations

import re
from pathlib import Path

from ..core.errors import GroundingError

__all__ = [
    "BUNDLED",
    "COSINE",
    "COSINE_LABEL",
    "EARLIER",
    "FOLDER",
    "check_name",
    "matcher_files",
    "name_of_file",
    "own_names",
]


BUNDLED, COSINE, COSINE_LABEL = "bundled", "cosine", "cosine+label"
"""Matchers that every index knows."""

EARLIER = "matcher"
"""Name of ``matcher.safetensors``, where releases before 0.2 kept the only trained matcher."""

FOLDER = "matchers"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = frozenset((BUNDLED, COSINE, EARLIER, "blend", "oracle"))
_SUFFIX = ".safetensors"


def check_name(name: str) -> None:
    """Refuse a name that a new matcher must not have.

    Raises
    ------
    GroundingError
        If it is reserved, or not usable as the name of a file everywhere.
    """
    if name.casefold() in _RESERVED:
        raise GroundingError(f"{name!r} is the name of a matcher that exists; choose another one")
    if not _NAME.fullmatch(name):
        raise GroundingError(
            f"{name!r} cannot name a matcher: use up to 64 letters, digits, dots, dashes and "
            "underscores"
        )


def matcher_files(name: str) -> tuple[str, str, str]:
    """Return the files of a matcher, relative to its index: weights, and curve as CSV and PNG.

    Examples
    --------
    >>> matcher_files("mine")[:2]
    ('matchers/mine.safetensors', 'matchers/mine-curve.csv')
    """
    base = name if name == EARLIER else f"{FOLDER}/{name}"
    return f"{base}{_SUFFIX}", f"{base}-curve.csv", f"{base}-curve.png"


def name_of_file(file: str) -> str | None:
    """Return the matcher whose weights a file of an index has, or None if it has none.

    >>> name_of_file("matchers/mine.safetensors"), name_of_file("matchers/mine-curve.csv")
    ('mine', None)
    """
    name = file.removeprefix(f"{FOLDER}/").removesuffix(_SUFFIX)
    known = name == EARLIER or _NAME.fullmatch(name)
    return name if known and matcher_files(name)[0] == file else None


def own_names(directory: Path) -> list[str]:
    """Return the names of the matchers in an index, sorted; links are not followed."""
    folder = directory / FOLDER
    files = [directory / matcher_files(EARLIER)[0]]
    if folder.is_dir() and not folder.is_symlink():
        files += folder.iterdir()
    found = (name_of_file(path.relative_to(directory).as_posix()) for path in files if _is(path))
    return sorted(name for name in found if name is not None)


def _is(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
