"""Opening an index for changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..storage.catalog import Catalog
from ..storage.lock import writer_lock
from ..storage.vectors.sync import sync_vectors
from .sweep import sweep_leftovers

__all__ = ["write_session"]


@contextlib.contextmanager
def write_session(directory: Path) -> Iterator[Catalog]:
    """Open an index for changes, and update its vector index at the end.

    Raises
    ------
    StoreError
        If there is no index or it cannot be written.
    StoreLockedError
        If another process is writing to it.
    """
    Catalog(directory).close()  # if this is not an index, fail before creating a lock file
    with (
        writer_lock(directory) as lock,
        contextlib.closing(Catalog(directory, writable=True, lock=lock)) as catalog,
    ):
        sweep_leftovers(catalog)
        yield catalog
        sync_vectors(catalog)
