"""Where an index may be: never among files of others, and never in place of another index."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ..core.errors import StoreError
from ..core.paths import absolute_path
from ..core.types import PathLike
from ..data.sources import source_places
from ..matching.names import FOLDER
from ..matching.pass_record import PASS_FOLDER
from ..storage.catalog import Catalog
from ..storage.feedback_file import FEEDBACK_FILE, FEEDBACK_LOCK
from ..storage.files import is_temporary
from ..storage.open_catalog import CATALOG_FILE
from ..storage.shard_format import SHARD_FILES
from .reembed_state import REEMBED_FOLDER

__all__ = ["REBUILDING", "check_place", "default_directory", "refuse_links"]

REBUILDING = "rebuilding"
"""Setting of a catalog that is being rebuilt from its shards."""

_HARMLESS = frozenset(
    (
        ".writer.lock", ".writer.json", FEEDBACK_FILE, FEEDBACK_LOCK, REEMBED_FOLDER,
        "lost+found", ".DS_Store", "desktop.ini",
    )
)  # fmt: skip


def check_place(directory: Path) -> Literal["index", "new", "lost"]:
    """Return what is in the folder of an index, before anything is written there.

    Returns
    -------
    str
        ``"index"``, ``"new"`` for an empty or missing folder, or ``"lost"`` for shards without
        their catalog.

    Raises
    ------
    StoreError
        If it is a file, a folder with other files, or an index with links that lead out of it.
    """
    if not os.path.exists(directory):  # noqa: PTH110 - never raises
        return "new"
    if not directory.is_dir():
        raise StoreError(f"{directory} is a file; name a folder for the index")
    refuse_links(directory)
    if Catalog.exists(directory):
        return "index"
    try:
        names = {path.name for path in directory.iterdir()}
        shards = directory / "shards"
        inside = {path.name for path in shards.iterdir()} if shards.is_dir() else set()
    except OSError as error:
        raise StoreError(f"{directory} cannot be read: {error.strerror}") from error
    foreign = {name for name in names - {"shards"} if not _is_harmless(name)}
    if inside and all(SHARD_FILES.fullmatch(name) or is_temporary(name) for name in inside):
        if any(not is_temporary(name) for name in inside):
            return "lost"
        inside = set()
    if foreign or inside or ("shards" in names and not shards.is_dir()):
        example = sorted(foreign or {f"shards/{name}" for name in inside} or {"shards"})[0]
        raise StoreError(
            f"{directory} is not an index and has other files, such as {example!r}; name a new or "
            "empty folder for the index"
        )
    return "new"


def refuse_links(directory: Path) -> None:
    """Raise :class:`StoreError` if the catalog or a folder of an index is behind a link."""
    for name in (CATALOG_FILE, "shards", FOLDER, PASS_FOLDER):
        if (directory / name).is_symlink():
            raise StoreError(
                f"{directory / name} is a link, and an index is written only where it is; move "
                "what it points to into its place, or link the whole folder of the index"
            )


def default_directory(sources: Sequence[PathLike], home: Path = Path("indexes")) -> Path:
    """Return the folder for the index of `sources`, named after the first of them.

    Raises
    ------
    StoreError
        If there is no name, or the folder holds an index of different images.
    """
    first = os.fspath(sources[0])
    path = Path(absolute_path(first))
    while glob.has_magic(str(path)) and not os.path.lexists(path):
        path = path.parent
    name = path.name if path.is_dir() else path.stem
    if not name or not first:
        raise StoreError(f"no name for the index follows from {first!r}; choose one with --index")
    directory = home / name
    if Catalog.exists(directory):
        catalog = Catalog(directory)
        try:
            own = next(iter(catalog.images()), None)
            if own is not None and not any(map(catalog.has_images_at, _places(sources))):
                raise StoreError(
                    f"{directory} is the index of other images, such as {own.path}; name a "
                    f"different folder with --index, or add to it with --index {directory}"
                )
        finally:
            catalog.close()
    return directory


def _places(sources: Sequence[PathLike]) -> list[str]:
    places = [place for source in sources for place in source_places(source)]
    return [*places, *(os.path.realpath(place) for place in places)]


def _is_harmless(name: str) -> bool:
    return name in _HARMLESS or is_temporary(name)
