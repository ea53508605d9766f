"""Removing images from an index."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Sequence

from ..core.errors import StoreError
from ..storage.catalog import Catalog

__all__ = ["matching_images", "remove_images"]


def matching_images(
    catalog: Catalog, paths: Iterable[str | os.PathLike[str]], pattern: str | None = None
) -> list[str]:
    """Return the images that are named: by path, by a folder above them, or by a glob pattern.

    Raises
    ------
    StoreError
        If one of `paths` or the pattern names no image of the index.
    """
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


def remove_images(catalog: Catalog, paths: Sequence[str]) -> None:
    """Forget images; the caller holds the writer's lock.

    Their rows stay in the shards until these are compacted.
    """
    catalog.commit(removed=paths)
