"""Phrases to begin with: what the photographs of a collection show most often."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..matching.pseudo.frequent import frequent_objects
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore

__all__ = ["suggest_phrases"]

_LOOKED_AT = 2000  # images, evenly spread


def suggest_phrases(directory: Path, count: int) -> list[str]:
    """Return phrases such as "a dog" for what an index shows most often.

    Parameters
    ----------
    directory : Path
        Folder of the index.
    count : int
        Maximum number; there may be none.
    """
    with contextlib.closing(Catalog(directory)) as catalog:
        keys = catalog.rows_with(None)
        store = RegionStore(catalog)
        some = keys[:: max(1, len(keys) // _LOOKED_AT)][:_LOOKED_AT]
        try:
            return frequent_objects(store.gather(some), count) if some else []
        finally:
            store.close()
