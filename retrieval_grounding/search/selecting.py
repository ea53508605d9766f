"""The first step of a query: which regions of a snapshot its filters allow."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..core.query.filters import Filters
from ..storage.catalog import Catalog
from ..storage.filters import SqlCondition, compile_filters
from ..storage.shards import ShardReader
from ..storage.vectors.selection import Selection

__all__ = ["Selected", "Selections", "select"]


_KEPT = 16  # of the newest filters; each takes a byte per region, and FAISS up to 40


class Selected:
    """What filters allow in one state of the catalog.

    Parameters
    ----------
    regions : Selection
        The regions that may be found.
    condition : SqlCondition or None
        The part of the filters that is about images: of several paths of one content, only those
        that fulfill it may be found.
    """

    def __init__(self, regions: Selection, condition: SqlCondition | None) -> None:
        self.regions = regions
        self.condition = condition
        self._of_images: Selected | None = None

    def of_images(self, open_shard: Callable[[int], ShardReader]) -> Selected:
        """Return the same with all regions of the images that have an allowed region."""
        if self._of_images is None:
            masks = {}
            for number, mask in self.regions.masks.items():
                offsets = open_shard(number).image_offsets
                masks[number] = np.repeat(
                    np.logical_or.reduceat(mask, offsets[:-1]), np.diff(offsets)
                )
            self._of_images = Selected(Selection(masks), self.condition)
        return self._of_images


class Selections:
    """Keeps what the newest filters of a snapshot allow; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Filters, Selected] = OrderedDict()

    def get(self, filters: Filters) -> Selected | None:
        """Return what filters allow, if it is known."""
        with self._lock:
            if filters in self._known:
                self._known.move_to_end(filters)
            return self._known.get(filters)

    def keep(self, filters: Filters, selected: Selected) -> None:
        """Remember what filters allow."""
        with self._lock:
            self._known[filters] = selected
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)


def select(
    catalog: Catalog,
    numbers: list[int],
    open_shard: Callable[[int], ShardReader],
    generation: int,
    filters: Filters,
) -> Selected | None:
    """Return what filters allow, or None if the catalog has changed since a snapshot.

    Parameters
    ----------
    catalog : Catalog
        Knows the images.
    numbers : list of int
        The shards of the snapshot.
    open_shard : callable
        Returns a shard's reader by its number.
    generation : int
        Of the snapshot.
    filters : Filters
        Which images and regions may be found.

    Raises
    ------
    QueryError
        If a condition does not fit the columns of the index.
    StoreError
        If a shard cannot be opened.
    """
    with catalog.reading():
        if catalog.generation != generation:
            return None
        condition = compile_filters(filters, catalog.columns())
        keys = np.array(catalog.rows_with(condition), np.int64).reshape(-1, 2)
    masks = {}
    for number in numbers:
        reader = open_shard(number)
        start, stop = np.searchsorted(keys[:, 0], [number, number + 1])
        rows = keys[start:stop, 1]
        allowed = np.zeros(len(reader.image_sizes), bool)
        allowed[rows[rows < len(allowed)]] = True
        mask = np.repeat(allowed, np.diff(reader.image_offsets))
        if filters.of_regions and mask.any():
            mask &= _regions_with(filters, reader)
        masks[number] = mask
    return Selected(Selection(masks), condition)


def _regions_with(filters: Filters, reader: ShardReader) -> npt.NDArray[np.bool_]:
    """Return which regions of a shard fulfill the filters of regions."""
    offsets = reader.image_offsets
    mask = np.ones(len(reader.labels), bool)
    if filters.labels:
        mask &= _has_label(reader, filters.labels)
    if filters.without_labels:
        images = np.logical_or.reduceat(_has_label(reader, filters.without_labels), offsets[:-1])
        mask &= ~np.repeat(images, np.diff(offsets))
    if filters.min_size is not None or filters.max_size is not None:
        boxes, sizes = reader.boxes, reader.image_sizes.astype(np.float32)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        shares = areas / np.repeat(sizes[:, 0] * sizes[:, 1], np.diff(offsets))
        if filters.min_size is not None:
            mask &= shares >= filters.min_size
        if filters.max_size is not None:
            mask &= shares <= filters.max_size
    return mask


def _has_label(reader: ShardReader, labels: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    wanted = {label.casefold() for label in labels}
    known = np.array([name.casefold() in wanted for name in reader.label_names], bool)
    found: npt.NDArray[np.bool_] = known[reader.labels]
    return found
