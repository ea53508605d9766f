"""What the parts of an open index need of each other."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

from ..matching.matcher import Matcher
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.lock import writer_lock

__all__ = ["IndexBase"]


class IndexBase(ABC):
    """An open index; `Index` derives from it."""

    @property
    @abstractmethod
    def encoder(self) -> Encoder:
        """The encoder that built the index."""

    @property
    @abstractmethod
    def matcher(self) -> Matcher:
        """What ranks regions for a phrase."""

    @property
    @abstractmethod
    def _catalog(self) -> Catalog: ...

    @contextlib.contextmanager
    def _writing(self, timeout: float) -> Iterator[Catalog]:
        """Hold the writer's lock and yield a catalog to write."""
        directory = self._catalog.directory
        with (
            writer_lock(directory, timeout) as lock,
            contextlib.closing(Catalog(directory, writable=True, lock=lock)) as catalog,
        ):
            yield catalog
