"""Filters: which images and regions may be found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import QueryError
from .units import date_range
from .where import parse_where

__all__ = ["Filters", "clean_texts"]


_MAX_TEXT = 4096
_MAX_VALUES = 64
_MAX_WILDCARDS = 16


@dataclass(frozen=True)
class Filters:
    """Which images and regions may be found. Different filters must hold together.

    Parameters
    ----------
    labels, without_labels : tuple of str
        Detector's labels: the region must have one of them; no region of the image may have one.
    folders, without_folders : tuple of str
        Globs with ``*`` and ``?``: the image must be below one of them, and below none of the
        others. A relative one matches anywhere in the path: ``2024/*`` or ``2024``.
    min_size, max_size : float, optional
        Limits of the region's share of its image, 0 to 1.
    since, until : str, optional
        When the photograph was taken, else when its file was changed: a year, month, day or time.
        Both ends are included.
    where : str, optional
        A condition on the metadata of the image, such as ``price < 20 and brand = 'x'``.

    Raises
    ------
    QueryError
        If a value is impossible.
    """

    labels: tuple[str, ...] = ()
    without_labels: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    without_folders: tuple[str, ...] = ()
    min_size: float | None = None
    max_size: float | None = None
    since: str | None = None
    until: str | None = None
    where: str | None = None

    def __post_init__(self) -> None:
        for name in ("labels", "without_labels", "folders", "without_folders"):
            object.__setattr__(self, name, clean_texts(getattr(self, name), name.replace("_", " ")))
        for pattern in (*self.folders, *self.without_folders):
            if pattern.count("*") + pattern.count("?") > _MAX_WILDCARDS:
                raise QueryError(f"the folder {pattern!r} has more than {_MAX_WILDCARDS} wildcards")
        for name in ("min_size", "max_size"):
            size = getattr(self, name)
            if size is not None and not 0 <= size <= 1:
                raise QueryError(f"{name} is a share of the image between 0 and 1, not {size}")
        for name in ("since", "until"):
            date = getattr(self, name)
            if date is not None:
                try:
                    date_range(date)
                except ValueError as error:
                    raise QueryError(str(error)) from error
        if self.where is not None:
            parse_where(self.where)

    def __bool__(self) -> bool:
        """Return whether anything is left out."""
        return self != _NO_FILTERS

    @property
    def of_images(self) -> bool:
        """Whether the catalog decides about images."""
        return bool(
            self.folders
            or self.without_folders
            or self.since is not None
            or self.until is not None
            or self.where is not None
        )

    @property
    def of_regions(self) -> bool:
        """Whether the shards decide about regions."""
        return bool(
            self.labels
            or self.without_labels
            or self.min_size is not None
            or self.max_size is not None
        )

    def joined(self, other: Filters) -> Filters:
        """Return filters that demand both.

        Raises
        ------
        QueryError
            If both have a condition on the same size or date.
        """
        values: dict[str, Any] = {}
        for name, own in vars(self).items():
            theirs = getattr(other, name)
            if isinstance(own, tuple):
                values[name] = tuple(dict.fromkeys(own + theirs))
            elif name == "where" and None not in (own, theirs):
                values[name] = f"({own}) and ({theirs})"
            elif None not in (own, theirs) and own != theirs:
                raise QueryError(f"{name.replace('_', '-')} is given twice: {own} and {theirs}")
            else:
                values[name] = theirs if own is None else own
        return Filters(**values)


def clean_texts(value: Any, name: str) -> tuple[str, ...]:
    """Return texts, of which none is empty, as a tuple; one text may be given by itself."""
    given: Iterable[Any] = (value,) if isinstance(value, str) else value
    texts = tuple(given)
    if len(texts) > _MAX_VALUES:
        raise QueryError(f"there are more than {_MAX_VALUES} {name}")
    for text in texts:
        if not isinstance(text, str) or not text.strip() or "\0" in text or len(text) > _MAX_TEXT:
            raise QueryError(f"{name} are texts that are not empty, unlike {text!r:.50}")
    return texts


_NO_FILTERS = Filters()
