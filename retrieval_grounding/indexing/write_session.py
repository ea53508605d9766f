"""Opening an index for changes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.lock import writer_lock
from ..storage.vectors.sync import sync_vectors
from .image_passes import sync_image_passes
from .place import refuse_links
from .sweep import sweep_leftovers
from .tuning_phrases import phrase_source

__all__ = ["writable_catalog", "write_session"]


@contextlib.contextmanager
def write_session(
    directory: Path,
    timeout: float = 0.0,
    load_encoder: Callable[[], Encoder] | None = None,
    *,
    passes: bool = True,
) -> Iterator[Catalog]:
    """Open an index for changes, and update its vector index at the end.

    Parameters
    ----------
    directory : Path
        Folder of the index.
    timeout : float
        Seconds to wait for a different writer.
    load_encoder : callable, optional
        Called if an approximate vector index has to be tuned on phrases.
    passes : bool
        Also write the image passes that are missing; a quick change leaves that to the next one.

    Raises
    ------
    StoreError, StoreLockedError
        As for :func:`writable_catalog`.
    """
    with writable_catalog(directory, timeout) as catalog:
        yield catalog
        sync_vectors(catalog, phrase_source(catalog, load_encoder) if load_encoder else None)
        if passes:
            sync_image_passes(catalog)


@contextlib.contextmanager
def writable_catalog(directory: Path, timeout: float = 0.0) -> Iterator[Catalog]:
    """Open an index for changes; the caller updates its vector index.

    Parameters
    ----------
    directory : Path
        Folder of the index.
    timeout : float
        Seconds to wait for a different writer.

    Raises
    ------
    StoreError
        If there is no index or it cannot be written.
    StoreLockedError
        If a different writer is at work until then.
    """
    refuse_links(directory)
    Catalog(directory).close()  # if this is not an index, fail before creating a lock file
    with (
        writer_lock(directory, timeout) as lock,
        contextlib.closing(Catalog(directory, writable=True, lock=lock)) as catalog,
    ):
        sweep_leftovers(catalog)
        yield catalog
