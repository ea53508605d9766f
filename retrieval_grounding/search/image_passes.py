"""What a matcher knows of images before it sees a phrase: kept with the index, or made anew."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import StoreError
from ..core.region_table import RegionTable
from ..core.types import RowKey
from ..matching.image_pass import ImagePass, join_images
from ..matching.pass_file import PassOrigin, open_pass
from ..matching.pass_record import PassRecord, read_record
from ..storage.catalog import Catalog
from ..storage.open_shards import max_open_shards
from ..storage.region_ids import split_region_ids
from ..storage.region_store import RegionStore

if TYPE_CHECKING:
    from ..matching.trained import TrainedMatcher

__all__ = ["ImagePasses"]

_log = logging.getLogger(__name__)


class ImagePasses:
    """Looks up the image pass of candidate images; threads may share it.

    Files that the catalog does not record, or whose checksum differs, are not used: the pass is
    computed from the regions instead, as for a matcher that the index was not prepared for.

    Parameters
    ----------
    catalog : Catalog
        Of the index.
    store : RegionStore
        Reads its shards.
    """

    def __init__(self, catalog: Catalog, store: RegionStore) -> None:
        self._catalog = catalog
        self._store = store
        self._lock = threading.Lock()
        self._generation: object = None
        self._record = PassRecord()
        self._shard_checksums: dict[int, str] = {}
        self._open: OrderedDict[tuple[int, str], ImagePass | None] = OrderedDict()

    def gather(
        self,
        matcher: TrainedMatcher,
        keys: Sequence[RowKey],
        first_ids: Sequence[int],
        regions: RegionTable,
        state: object,
    ) -> ImagePass | None:
        """Return the image pass of some images, or None if it cannot be computed.

        Parameters
        ----------
        matcher : TrainedMatcher
            The one whose pass it is.
        keys : sequence of m RowKey
            The images.
        first_ids : sequence of m int
            The id of the first region of each.
        regions : RegionTable
            Their regions.
        state : object
            Of the catalog: what it records is read again when this changes.
        """
        opened = self._opened(matcher, {shard for shard, _ in keys}, state)
        if all(known is None for known in opened.values()):
            return matcher.encode_pass(regions)
        starts = split_region_ids(np.array(first_ids, np.int64))[1]
        stops = starts + np.diff(regions.offsets)
        parts = [opened[shard] for shard, _ in keys]
        missing = [number for number, known in enumerate(parts) if known is None]
        if missing:
            table = regions.take_images(np.array(missing, np.int64))
            made = matcher.encode_pass(table)
            if made is None:
                return None
            starts[missing], stops[missing] = table.offsets[:-1], table.offsets[1:]
            for number in missing:
                parts[number] = made
        rows = map(slice, starts.tolist(), stops.tolist())
        return join_images(
            [(known, own) for known, own in zip(parts, rows, strict=True) if known is not None]
        )

    def _opened(
        self, matcher: TrainedMatcher, shards: set[int], state: object
    ) -> dict[int, ImagePass | None]:
        """Return the mapped passes of some shards; None for those that cannot be used."""
        with self._lock:
            if self._generation != state:
                self._read(state)
            if self._record.matcher != matcher.identity:
                return dict.fromkeys(shards)
            found = {}
            for shard in shards:
                checksum = self._record.checksums.get(shard)
                key = (shard, checksum or "")
                if checksum is not None and key not in self._open:
                    self._open[key] = self._load(matcher, shard, checksum)
                    while len(self._open) > max_open_shards() // 2:
                        self._open.popitem(last=False)
                found[shard] = self._open.get(key)
            return found

    def _read(self, state: object) -> None:
        try:
            with self._catalog.reading():
                self._record = read_record(self._catalog)
                self._shard_checksums = self._catalog.shard_checksums()
        except StoreError as error:  # queries do not depend on it
            _log.warning("%s; queries are slower until it is mended", error)
            self._record = PassRecord()
        self._open = OrderedDict(
            (key, known)
            for key, known in self._open.items()
            if self._record.checksums.get(key[0]) == key[1]
        )
        self._generation = state

    def _load(self, matcher: TrainedMatcher, shard: int, checksum: str) -> ImagePass | None:
        path = self._record.path(self._catalog.directory, shard)
        try:
            origin = PassOrigin(self._shard_checksums.get(shard, ""), matcher.identity)
            offsets = self._store.open_shard(shard).image_offsets
            return open_pass(path, checksum, origin, offsets, matcher.config.width)
        except (StoreError, OSError, ValueError) as error:
            _log.warning(
                "%s is not used (%s), so queries are slower; 'retrieval-grounding verify %s "
                "--repair' removes it",
                path,
                error,
                self._catalog.directory,
            )
            return None
