"""Deleting what killed writers left behind."""

from __future__ import annotations

from ..storage.catalog import Catalog
from ..storage.files import TEMPORARY_SUFFIX, as_store_error

__all__ = ["sweep_leftovers"]


def sweep_leftovers(catalog: Catalog) -> None:
    """Delete what killed writers left behind: unfinished files, and shards not in the catalog.

    The caller holds the writer's lock.
    """
    committed = set(catalog.shard_files().values())
    shards = catalog.directory / "shards"
    with as_store_error(catalog.directory):
        for path in shards.glob("*.h5"):
            if path.name not in committed:
                path.unlink()
        for folder in (catalog.directory, shards):
            for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
                path.unlink()
