"""Merging small shards, so that adding one image at a time does not leave one shard each."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping

from ..core.errors import ModelError, StoreError
from ..storage.catalog import Catalog
from ..storage.vectors.metadata import read_metadata
from .compact import RowCopier

__all__ = ["has_many_small_shards", "merge_small_shards"]

_LOGGER = logging.getLogger(__name__)

_FANOUT = 6
"""So many shards of about the same size become one. With shards of 512 images, up to 1,000 images
that come one by one take 18 shards at most, and each is copied 3 times."""

_MAX_SMALL = 16


def merge_small_shards(catalog: Catalog, shard_images: int, *, indexed: bool) -> None:
    """Merge small shards where there are many of about the same size; the caller holds the lock.

    Each merged shard is committed by itself, so a crash at any moment leaves a complete index.
    Rows that no image uses are copied, too: only ``compact`` drops them. A damaged shard, and
    those to be merged with it, stay as they are until ``verify --repair``.

    Parameters
    ----------
    catalog : Catalog
        Of the index, opened for writing.
    shard_images : int
        Images per full shard.
    indexed : bool
        Also merge shards that the vector index holds; it has to be updated then. An ``hnsw``
        index, which would be rebuilt, keeps its shards.
    """
    keep = _kept(catalog, indexed)
    while numbers := choose_shards(catalog.shard_images(), keep, shard_images):
        copier = RowCopier(catalog)
        rows = [row for number in numbers for row in catalog.stored_rows(number)]
        try:
            copier.copy(rows, numbers)
        except (StoreError, ModelError) as error:
            _LOGGER.warning("shards %s were not merged: %s", numbers, error)
            keep |= set(numbers)


def has_many_small_shards(catalog: Catalog, shard_images: int) -> bool:
    """Return whether merging shards that the vector index holds is worth writing it again.

    Removing images brings the vector index up to date, so it may hold any number of small shards.
    """
    sizes = catalog.shard_images()
    small = sum(2 * size <= shard_images for size in sizes.values())
    return small > _MAX_SMALL and bool(choose_shards(sizes, _kept(catalog, True), shard_images))


def _kept(catalog: Catalog, indexed: bool) -> set[int]:
    metadata = read_metadata(catalog)
    return set(metadata.shards) if metadata.kind == "hnsw" or not indexed else set()


def choose_shards(sizes: Mapping[int, int], keep: Collection[int], capacity: int) -> list[int]:
    """Return the shards to merge next, the smallest first, or none.

    Parameters
    ----------
    sizes : mapping of int to int
        Images in each shard, by number.
    keep : collection of int
        Shards to leave alone.
    capacity : int
        Images of a full shard. Shards that are more than half full are left alone.

    Examples
    --------
    >>> choose_shards({1: 500, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1}, (), 512)
    []
    >>> choose_shards({1: 500, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 3}, (), 512)
    [2, 3, 4, 5, 6, 7]
    """
    small = sorted(
        (size, number)
        for number, size in sizes.items()
        if 0 < size * 2 <= capacity and number not in keep
    )
    limits = Counter(_limit(size) for size, _ in small)
    crowded = [limit for limit, count in limits.items() if count >= _FANOUT]
    chosen: list[int] = []
    total = 0
    for size, number in small if crowded else ():
        if size >= min(crowded) or total + size > capacity:
            break
        chosen.append(number)
        total += size
    return chosen if len(chosen) > 1 else []


def _limit(size: int) -> int:
    """Return the least power of the fanout that is larger than a size."""
    limit = _FANOUT
    while limit <= size:
        limit *= _FANOUT
    return limit
