"""Candidates: the images whose regions are nearest to a phrase, with all their regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases
from ..core.query.filters import Filters
from ..core.region_table import RegionTable
from ..core.types import RowKey
from ..storage.catalog import Catalog
from ..storage.filters import SqlCondition
from ..storage.region_ids import region_ids, split_region_ids
from ..storage.region_store import RegionStore
from ..storage.rows import ImageRow
from .selecting import Selected, select
from .snapshot import Snapshot

__all__ = ["Candidates", "find_candidates", "find_images", "ids_of_regions", "select_once"]


@dataclass(frozen=True)
class Candidates:
    """The candidate images of several phrases, each phrase with its own.

    Parameters
    ----------
    by_phrase : list of lists of RowKey
        The candidates of each phrase, best first.
    images : dict of RowKey to list of ImageRow, or None
        The images whose paths point to each key; None if they have not been looked up.
    generation : int
        Of the catalog, to whose state all of this belongs.
    regions : RegionTable or None
        The regions of `keys`, in that order; None if there are no candidates.
    first_ids : list of int
        The id of the first region of each of `keys`; those of an image's regions are consecutive.
    allowed : bool array or None
        Which of the regions filters allow, at least one of each image; None if they allow all.
    """

    by_phrase: list[list[RowKey]]
    images: dict[RowKey, list[ImageRow]] | None
    generation: int
    regions: RegionTable | None
    first_ids: list[int]
    allowed: npt.NDArray[np.bool_] | None = None

    @property
    def keys(self) -> list[RowKey]:
        """All candidates, phrase by phrase; a key that several phrases share is repeated."""
        return [key for keys in self.by_phrase for key in keys]

    @property
    def phrase_rows(self) -> npt.NDArray[np.int64]:
        """The phrase of each of `keys`."""
        return np.repeat(np.arange(len(self.by_phrase)), [len(keys) for keys in self.by_phrase])

    def positions(self) -> list[npt.NDArray[np.int64]]:
        """Return the positions of each phrase's candidates in `keys`."""
        ends = np.cumsum([len(keys) for keys in self.by_phrase])
        return [
            np.arange(end - len(keys), end) for keys, end in zip(self.by_phrase, ends, strict=True)
        ]


def find_candidates(
    catalog: Catalog,
    store: RegionStore,
    snapshot: Snapshot,
    phrases: Phrases,
    count: int,
    exact: bool,
    filters: Filters,
    named: bool = True,
) -> Candidates | None:
    """Return `count` candidate images for each phrase, or None if `snapshot` is out of date.

    Only images with a region that the filters allow are candidates. Unless they must be `named`,
    the catalog is not asked about them where it would only give their paths.

    Raises
    ------
    QueryError
        If a condition does not fit the columns of the index.
    StoreError
        If a shard cannot be opened.
    """
    selected = None
    if filters:
        selected = select_once(catalog, store, snapshot, filters)
        if selected is None:
            return None
    images: dict[RowKey, list[ImageRow]] | None = None
    if snapshot.all_used and selected is None and not named:
        by_phrase = _nearest_images(snapshot, phrases, count, exact)
    else:
        found = find_images(catalog, snapshot, phrases, count, exact, selected)
        if found is None:
            return None
        by_phrase, images = found
    keys = [key for own in by_phrase for key in own]
    if keys:
        regions, first_ids = store.gather_with_ids(keys)
        allowed = None
        if selected is not None and filters.of_regions:
            allowed = selected.regions.contains(ids_of_regions(first_ids, regions.offsets))
        return Candidates(by_phrase, images, snapshot.generation, regions, first_ids, allowed)
    if catalog.generation != snapshot.generation:
        return None
    return Candidates(by_phrase, {}, snapshot.generation, None, [])


def select_once(
    catalog: Catalog, store: RegionStore, snapshot: Snapshot, filters: Filters
) -> Selected | None:
    """Return what filters allow, or None if `snapshot` is out of date; a snapshot keeps it.

    Raises
    ------
    QueryError
        If a condition does not fit the columns of the index.
    StoreError
        If a shard cannot be opened.
    """
    selected = snapshot.selections.get(filters)
    if selected is None:
        numbers = sorted(snapshot.vectors.shard_vectors.numbers)
        selected = select(catalog, numbers, store.open_shard, snapshot.generation, filters)
        if selected is not None:
            snapshot.selections.keep(filters, selected)
    return selected


def ids_of_regions(first_ids: list[int], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the ids of all regions of images, of which the first are known."""
    counts = np.diff(offsets)
    inside = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], counts)
    ids: npt.NDArray[np.int64] = np.repeat(np.array(first_ids, np.int64), counts) + inside
    return ids


def find_images(
    catalog: Catalog,
    snapshot: Snapshot,
    phrases: Phrases,
    count: int,
    exact: bool,
    selected: Selected | None = None,
) -> tuple[list[list[RowKey]], dict[RowKey, list[ImageRow]]] | None:
    """Return the candidates of each phrase and their images; see :func:`find_candidates`."""
    selection = None if selected is None else selected.regions
    condition = None if selected is None else selected.condition
    by_phrase: list[list[RowKey]] = [[] for _ in phrases.texts]
    images: dict[RowKey, list[ImageRow]] = {}
    pending, wider = list(range(len(phrases))), 1
    while pending:
        # The nearest regions may be of few images, so the search widens until there are enough.
        nearest, complete = snapshot.vectors.nearest(
            phrases.embeddings[pending], count, wider=wider, exact=exact, selection=selection
        )
        keys = [_image_keys(snapshot, ids) for ids in nearest]
        with catalog.reading():
            if catalog.generation != snapshot.generation:
                return None
            for phrase, near in zip(pending, keys, strict=True):
                by_phrase[phrase] = _keys_in_use(catalog, near, count, images, condition)
        pending = [] if complete else [p for p in pending if len(by_phrase[p]) < count]
        wider *= 4
    return by_phrase, images


def _nearest_images(
    snapshot: Snapshot, phrases: Phrases, count: int, exact: bool
) -> list[list[RowKey]]:
    """Return the candidates of each phrase if images use every row."""
    by_phrase: list[list[RowKey]] = [[] for _ in phrases.texts]
    pending, wider = list(range(len(phrases))), 1
    while pending:
        nearest, complete = snapshot.vectors.nearest(
            phrases.embeddings[pending], count, wider=wider, exact=exact
        )
        for phrase, ids in zip(pending, nearest, strict=True):
            # Mostly the best half of the regions is of enough images.
            keys = _image_keys(snapshot, ids[: 2 * count])
            if len(keys) < count:
                keys = _image_keys(snapshot, ids)
            by_phrase[phrase] = keys[:count]
        pending = [] if complete else [p for p in pending if len(by_phrase[p]) < count]
        wider *= 4
    return by_phrase


def _image_keys(snapshot: Snapshot, ids: npt.NDArray[np.int64]) -> list[RowKey]:
    """Return the images of regions, each once, in order; ids below 0 are padding."""
    shards, rows = snapshot.vectors.shard_vectors.images(ids).T
    known = shards >= 0
    keys, first = np.unique(region_ids(shards[known], rows[known]), return_index=True)
    shards, rows = split_region_ids(keys[np.argsort(first)])
    return list(zip(shards.tolist(), rows.tolist(), strict=True))


def _keys_in_use(
    catalog: Catalog,
    keys: list[RowKey],
    count: int,
    images: dict[RowKey, list[ImageRow]],
    condition: SqlCondition | None,
) -> list[RowKey]:
    """Return the first `count` keys that images point to, and add those images to `images`."""
    used: list[RowKey] = []
    while keys and len(used) < count:
        batch, keys = keys[: count - len(used)], keys[count - len(used) :]
        images |= catalog.images_at([key for key in batch if key not in images], condition)
        used += [key for key in batch if key in images]
    return used
