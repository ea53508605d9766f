"""Finding the index that was meant when a path was mistyped."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

__all__ = ["folders_nearby"]


_DEFAULT_HOME = Path("indexes")
_SHOWN = 3


def folders_nearby(directory: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """Return the folders in and beside `directory`, and in ``indexes/``, that are wanted.

    Those whose names are most like that of `directory` come first; at most three.
    """
    places = dict.fromkeys((directory, directory.parent, _DEFAULT_HOME))
    found = dict.fromkeys(
        path
        for place in places
        if place.is_dir()
        for path in sorted(place.iterdir())
        if wanted(path)
    )

    def likeness(path: Path) -> float:
        return difflib.SequenceMatcher(None, path.name, directory.name).ratio()

    return sorted(found, key=likeness, reverse=True)[:_SHOWN]
