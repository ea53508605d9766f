"""Finding the images that names in files of expressions mean, by path, file name or COCO number."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.errors import ExpressionError
from ..core.text import counted
from .expressions import ExpressionSet

if TYPE_CHECKING:
    from .sources import Collection

__all__ = ["PathNames", "described_images"]


_COCO = re.compile(r"(?:COCO_[A-Za-z]+\d{4}_)?(\d{12})(?:_\d+)?")


class PathNames:
    """Looks up paths by a name, which may be the whole path, the end of one, or a COCO number.

    Parameters
    ----------
    paths : iterable of str
        Paths of images, each once.

    Examples
    --------
    >>> names = PathNames(["/photos/train2014/COCO_train2014_000000000009.jpg", "/photos/a.jpg"])
    >>> names.find("000000000009.jpg")
    ['/photos/train2014/COCO_train2014_000000000009.jpg']
    >>> names.find("photos/a.jpg"), names.find("other/a.jpg")
    (['/photos/a.jpg'], [])
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._by_path: dict[str, list[str]] = defaultdict(list)
        self._by_file: dict[str, list[str]] = defaultdict(list)
        self._by_number: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            normalized = _normalized(path)
            self._by_path[normalized].append(path)
            self._by_file[_file_name(normalized)].append(path)
            if number := _coco_number(normalized):
                self._by_number[number].append(path)

    def find(self, name: str) -> list[str]:
        """Return the paths that `name` means, by the rules of :func:`.resolve.resolve_images`."""
        wanted = _normalized(name)
        if same_path := self._by_path.get(wanted):
            return [path for path in same_path if path == name] or same_path
        ending = "/" + wanted.lstrip("/")
        same_file = self._by_file.get(_file_name(wanted), [])
        if found := [path for path in same_file if _normalized(path).endswith(ending)]:
            return found
        folder = ending.rsplit("/", 1)[0]
        same_number = self._by_number.get(_coco_number(wanted) or "", [])
        return [path for path in same_number if _folder(_normalized(path)).endswith(folder)]


def described_images(collection: Collection, expressions: ExpressionSet) -> Collection:
    """Return a collection with only the images that expressions are about.

    Raises
    ------
    ExpressionError
        If there are none.
    """
    names = PathNames(collection.paths)
    described = {path for name in {e.image for e in expressions} for path in names.find(name)}
    if not described:
        raise ExpressionError(
            f"none of the {counted(len(collection.paths), 'image')} is one that "
            f"{expressions.source} describes, such as {expressions.expressions[0].image}; name the "
            "folder of its photographs"
        )
    return replace(collection, paths=[path for path in collection.paths if path in described])


def _normalized(path: str) -> str:
    """Return a path with forward slashes and composed accents, without ``.`` and leading ``..``."""
    slashes = posixpath.normpath(unicodedata.normalize("NFC", path.replace("\\", "/")))
    while slashes.startswith("../"):
        slashes = slashes.removeprefix("../")
    return slashes


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _file_name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _coco_number(path: str) -> str | None:
    found = _COCO.fullmatch(_file_name(path).rsplit(".", 1)[0])
    return found[1] if found else None
