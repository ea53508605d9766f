"""Suggesting indexes when a path was mistyped."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

__all__ = ["folders_nearby"]


_DEFAULT_HOME = Path("indexes")
_MAX_SHOWN = 3


def folders_nearby(directory: Path, is_wanted: Callable[[Path], bool]) -> list[Path]:
    """Return the wanted folders in and beside `directory`, and in ``indexes/``.

    At most three are returned, the names most similar to `directory` first.
    """
    found: list[Path] = []
    for folder in dict.fromkeys((directory, directory.parent, _DEFAULT_HOME)):
        if folder.is_dir():
            found += [path for path in sorted(folder.iterdir()) if is_wanted(path)]

    def similarity(path: Path) -> float:
        return difflib.SequenceMatcher(None, path.name, directory.name).ratio()

    return sorted(dict.fromkeys(found), key=similarity, reverse=True)[:_MAX_SHOWN]
