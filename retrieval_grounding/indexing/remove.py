"""Removing images from an index."""

from __future__ import annotations

import fnmatch
import os
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

from ..core.addresses import absolute_address
from ..core.errors import StoreError
from ..core.paths import resolver
from ..core.reports import SkippedFile
from ..core.types import PathLike
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from .scan import REMOVED
from .write_session import write_session

__all__ = ["remove_images"]

_DETAIL = "removed from the index; build --restore adds it again"


def remove_images(
    directory: Path,
    load_encoder: Callable[[], Encoder],
    paths: Iterable[PathLike],
    pattern: str | None,
    timeout: float = 0.0,
) -> int:
    """Remove images named by path, by a folder above them, or by a glob pattern.

    Builds leave them out until they are asked to restore them. Their rows stay in the shards until
    the index is compacted.

    Returns
    -------
    int
        Number of images that were removed.

    Raises
    ------
    StoreError
        If one of `paths` or the pattern does not name an image of the index.
    """
    with write_session(directory, timeout, load_encoder, passes=False) as catalog:
        chosen = _matching(catalog, paths, pattern)
        catalog.commit(skipped=[SkippedFile(path, REMOVED, _DETAIL) for path in chosen])
    return len(chosen)


def _matching(catalog: Catalog, paths: Iterable[PathLike], pattern: str | None) -> list[str]:
    names = _Names(catalog)
    chosen: dict[str, None] = {}
    for path in paths:
        wanted = absolute_address(path)
        found = names.find(wanted)
        if not found:
            raise StoreError(f"{catalog.directory} has no image {wanted!r} and none below it")
        chosen |= dict.fromkeys(found)
    if pattern is not None:
        known = names.known
        matched = set(fnmatch.filter(map(_composed, known), _composed(pattern)))
        found = [name for name in known if _composed(name) in matched]
        if not found:
            raise StoreError(
                f"no image of {catalog.directory} matches {pattern!r}; patterns match whole "
                "absolute paths, so begin with '*'"
            )
        chosen |= dict.fromkeys(found)
    return sorted(chosen)


class _Names:
    """Finds images by path or by a folder above them, as they are named or through other links.

    All images are listed only if the catalog does not find a path as it is named.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._resolve = resolver()
        self._tables: list[tuple[list[str], dict[str, list[str]]]] = []

    @cached_property
    def known(self) -> list[str]:
        """All images."""
        return list(self._catalog.known_files())

    def find(self, wanted: str) -> list[str]:
        """Return the images that `wanted` names; none if there are none."""
        if wanted.isascii() and (named := self._catalog.paths_at(wanted)):
            return named
        resolved = os.path.realpath(wanted)
        keys = (wanted, self._resolve(wanted), resolved)
        for number, key in enumerate(keys):
            if found := self._look_up(self._table(min(number, 1)), _composed(key)):
                return [path for path in found if path == wanted] or found
        return []

    def _table(self, number: int) -> tuple[list[str], dict[str, list[str]]]:
        """Return images by their names (0) or by their resolved names (1), made when needed."""
        while len(self._tables) <= number:
            by_key: dict[str, list[str]] = {}
            for path in self.known:
                key = self._resolve(path) if self._tables else path
                by_key.setdefault(_composed(key), []).append(path)
            self._tables.append((sorted(by_key), by_key))
        return self._tables[number]

    @staticmethod
    def _look_up(table: tuple[list[str], dict[str, list[str]]], wanted: str) -> list[str]:
        ordered, by_key = table
        if exact := by_key.get(wanted):
            return exact
        folder = os.path.join(wanted, "")  # noqa: PTH118
        found: list[str] = []
        start = bisect_left(ordered, folder)
        for number in range(start, len(ordered)):
            if not ordered[number].startswith(folder):
                break
            found += by_key[ordered[number]]
        return found


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)
