"""What pages say about a collection as a whole; computed once for each state of its index."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from ...search.suggestions import suggest_phrases
from ...storage.catalog import Catalog
from ...storage.rows import ImageRow
from ..served import ServedIndex

__all__ = ["Collection", "Collections", "Known", "Overview"]

_PHRASES = 14
_SAMPLES = 18


@dataclass(frozen=True)
class Overview:
    """What the first page shows of a collection.

    Parameters
    ----------
    images : int
        How many it has.
    phrases : list of str
        Phrases for what it shows most often.
    samples : list of ImageRow
        Images evenly spread over it.
    """

    images: int
    phrases: list[str]
    samples: list[ImageRow]


class Collection:
    """An index as pages read it beside queries; threads may share it.

    Parameters
    ----------
    served : ServedIndex
        The index.
    """

    def __init__(self, served: ServedIndex) -> None:
        self._served = served
        self._known: tuple[int, Overview] | None = None

    @property
    def catalog(self) -> Catalog:
        """The catalog, for reading."""
        return self._served.catalog

    def overview(self) -> Overview:
        """Return what the first page shows."""
        generation = self.catalog.generation
        known = self._known
        if known is None or known[0] != generation:
            known = self._known = (generation, self._look())
        return known[1]

    def dates(self, paths: Sequence[str]) -> dict[str, str]:
        """Return when images were taken, by path."""
        return self.catalog.dates_of(list(dict.fromkeys(paths)))

    def image(self, content_hash: str) -> list[ImageRow]:
        """Return the images of a content; none if the index no longer has it."""
        key = self.catalog.row_of_content(content_hash)
        return [] if key is None else self.catalog.images_at([key]).get(key, [])

    def hash_of(self, path: str) -> str | None:
        """Return the hash of an image's content."""
        file = self.catalog.known_file(path)
        rows = [] if file is None else self.catalog.images_at([file.key]).get(file.key, [])
        return rows[0].content_hash if rows else None

    def _look(self) -> Overview:
        keys = self.catalog.rows_with(None)
        some = keys[:: max(1, len(keys) // _SAMPLES)][:_SAMPLES]
        found = self.catalog.images_at(some)
        samples = [found[key][0] for key in some if key in found]
        phrases = suggest_phrases(self._served.index.directory, _PHRASES)
        return Overview(len(keys), phrases, samples)


class Collections:
    """The collections of a service, by the name of their index."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Collection] = {}

    def of(self, served: ServedIndex) -> Collection:
        """Return the collection of an index."""
        with self._lock:
            if served.name not in self._known:
                self._known[served.name] = Collection(served)
            return self._known[served.name]


def _collections_of(request: Request) -> Collections:
    """Return the collections of the application that a request came to."""
    collections: Collections = request.app.state.collections
    return collections


Known = Annotated[Collections, Depends(_collections_of)]
"""The type of a route's parameter that gets the collections."""
