"""Opening an index for changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..storage.catalog import Catalog
from ..storage.lock import writer_lock
from ..storage.vectors.sync import sync_vectors
from .sweep import sweep_leftovers

__all__ = ["writing"]


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[Catalog]:
    """Open an index for changes, and let its vector index follow them at the end.

    Raises
    ------
    StoreError
        If there is no index or it cannot be written.
    StoreLockedError
        If another process is writing to it.
    """
    Catalog(directory).close()  # says what is wrong before a lock is put there
    with writer_lock(directory), contextlib.closing(Catalog(directory, writable=True)) as catalog:
        sweep_leftovers(catalog)
        yield catalog
        sync_vectors(catalog)
