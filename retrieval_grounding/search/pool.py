"""Pools: the images that a query with several clauses looks at, with all their regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases
from ..core.query.filters import Filters
from ..core.region_table import RegionTable
from ..core.types import RowKey
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from ..storage.rows import ImageRow
from .candidates import find_images, ids_of_regions, select_once
from .selecting import Selected
from .snapshot import Snapshot

__all__ = ["Pool", "PoolRequest", "gather_pool"]


@dataclass(frozen=True)
class PoolRequest:
    """What to gather.

    Parameters
    ----------
    wanted : Phrases
        What the region found should be; examples are embeddings without text.
    also : Phrases
        What its image should show, too.
    filters : Filters
        Which images and regions may be found.
    count : int
        Images for each of `wanted` and `also`.
    exact : bool
        Compare every region that the filters allow.
    """

    wanted: Phrases
    also: Phrases
    filters: Filters
    count: int
    exact: bool = False


@dataclass(frozen=True)
class Pool:
    """Candidate images, each once, with all their regions.

    Parameters
    ----------
    keys : list of m RowKey
        Where the images lie.
    images : dict of RowKey to list of ImageRow
        The images whose paths point to each key.
    regions : RegionTable
        The regions of `keys`, in that order; n in all.
    region_ids : int64 array of shape (n,)
        Their ids.
    allowed : bool array of shape (n,)
        Which of them the filters allow.
    is_all : bool
        Whether there are no further images to be found.
    """

    keys: list[RowKey]
    images: dict[RowKey, list[ImageRow]]
    regions: RegionTable
    region_ids: npt.NDArray[np.int64]
    allowed: npt.NDArray[np.bool_]
    is_all: bool


def gather_pool(
    catalog: Catalog, store: RegionStore, snapshot: Snapshot, request: PoolRequest
) -> Pool | tuple[()] | None:
    """Return the pool; an empty tuple if nothing can be found; None if `snapshot` is out of date.

    Raises
    ------
    QueryError
        If a condition does not fit the columns of the index.
    StoreError
        If a shard cannot be opened.
    """
    selected: Selected | None = None
    if request.filters:
        selected = select_once(catalog, store, snapshot, request.filters)
        if selected is None:
            return None
    found: dict[RowKey, list[ImageRow]] = {}
    keys: dict[RowKey, None] = {}
    is_all = True
    for phrases, allowed in (
        (request.wanted, selected),
        (request.also, selected and selected.of_images(store.open_shard)),
    ):
        if not len(phrases):
            continue
        result = find_images(catalog, snapshot, phrases, request.count, request.exact, allowed)
        if result is None:
            return None
        by_phrase, images = result
        found |= images
        keys |= dict.fromkeys(key for own in by_phrase for key in own)
        is_all &= all(len(own) < request.count for own in by_phrase)
    if not keys:
        return () if catalog.generation == snapshot.generation else None
    chosen = list(keys)
    regions, first_ids = store.gather_with_ids(chosen)
    ids = ids_of_regions(first_ids, regions.offsets)
    mask = np.ones(len(ids), bool) if selected is None else selected.regions.contains(ids)
    return Pool(chosen, found, regions, ids, mask, is_all)
