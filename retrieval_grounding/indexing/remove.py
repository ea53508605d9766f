"""Removing images from an index."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from pathlib import Path

from ..core.errors import StoreError
from ..core.types import PathLike
from ..storage.catalog import Catalog
from .write_session import write_session

__all__ = ["remove_images"]


def remove_images(
    directory: Path, paths: Iterable[PathLike], pattern: str | None, timeout: float = 0.0
) -> int:
    """Remove images named by path, by a folder above them, or by a glob pattern.

    Their rows stay in the shards until the index is compacted.

    Returns
    -------
    int
        Number of images that were removed.

    Raises
    ------
    StoreError
        If one of `paths` or the pattern does not name an image of the index.
    """
    with write_session(directory, timeout) as catalog:
        chosen = _matching(catalog, paths, pattern)
        catalog.commit(removed=chosen)
    return len(chosen)


def _matching(catalog: Catalog, paths: Iterable[PathLike], pattern: str | None) -> list[str]:
    known = sorted(catalog.known_files())
    chosen: dict[str, None] = {}
    for path in paths:
        wanted = os.path.abspath(path)  # noqa: PTH100 - links must not be resolved
        folder = os.path.join(wanted, "")  # noqa: PTH118
        found = [name for name in known if name == wanted or name.startswith(folder)]
        if not found:
            raise StoreError(f"{catalog.directory} has no image {wanted!r} and none below it")
        chosen |= dict.fromkeys(found)
    if pattern is not None:
        found = fnmatch.filter(known, pattern)
        if not found:
            raise StoreError(
                f"no image of {catalog.directory} matches {pattern!r}; patterns match whole "
                "absolute paths, so begin with '*'"
            )
        chosen |= dict.fromkeys(found)
    return list(chosen)
