"""Retrieval: phrases → nearest regions → candidate images → all their regions → matcher → hits."""

from __future__ import annotations

import contextlib
import logging

import numpy as np

from ..core.errors import StoreError
from ..core.hits import Hit
from ..core.phrases import Phrases
from ..core.query.filters import Filters
from ..core.region_table import RegionTable
from ..core.threads import single_thread
from ..core.types import RowKey
from ..matching.feedback_matcher import FeedbackMatcher
from ..matching.matcher import Matcher
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from ..storage.rows import ImageRow
from ..storage.shards import ShardReader
from .best import find_best
from .candidates import Candidates, find_candidates
from .confidence import best_probabilities
from .image_passes import ImagePasses
from .pool import Pool, PoolRequest, gather_pool
from .rank import make_hit
from .snapshot import Snapshot, SnapshotCache

__all__ = ["Retriever"]

logger = logging.getLogger(__name__)

_NO_FILTERS = Filters()
_ATTEMPTS = 3
_PHRASES_AT_ONCE = 64  # the regions of their candidates are in memory together


class Retriever:
    """Answers phrases from an index's shards and vectors; threads may share it.

    Each search (of at most 64 phrases at a time) reads one snapshot of the index: the newest that
    was committed when it began. Writers may commit meanwhile. Threads wait for each other only
    during short queries of the catalog.

    Parameters
    ----------
    catalog : Catalog
        Says which images are in the index.
    device : str
        ``"cuda"`` lets FAISS search on the GPUs, if the GPU package is installed.
    """

    def __init__(self, catalog: Catalog, device: str = "cpu") -> None:
        self._catalog = catalog
        self._store = RegionStore(catalog)
        self._snapshots = SnapshotCache(catalog, self._store, device)
        self._passes = ImagePasses(catalog, self._store)

    def search(
        self,
        phrases: Phrases,
        matcher: Matcher,
        top: int,
        candidates: int,
        exact: bool = False,
        skip_missing: bool = False,
        filters: Filters = _NO_FILTERS,
    ) -> list[list[Hit]]:
        """Return the best region of each of the `top` best images, for each phrase.

        Parameters
        ----------
        phrases : Phrases
            What to find.
        matcher : Matcher
            Scores the regions of candidate images.
        top : int
            Hits for each phrase.
        candidates : int
            Images taken from the vector index for each phrase.
        exact : bool
            Compare every region with each phrase, regardless of the kind of vector index, and score
            every region of the candidates with all of the matcher's network.
        skip_missing : bool
            Leave out images whose files no longer exist.
        filters : Filters
            Which images and regions may be found.
        """

        def answer(part: Phrases) -> list[list[Hit]]:
            with contextlib.nullcontext() if exact else single_thread():
                sought = matcher.sought(part) if isinstance(matcher, FeedbackMatcher) else part
                count = max(candidates, top)
                for named in (False, True):
                    found = self.candidates(
                        sought,
                        count,
                        exact,
                        filters,
                        named=named,
                        first=None if named else snapshot,
                    )
                    ranked = self._rank(part, found, snapshot, matcher, top, exact, skip_missing)
                    if ranked is not None:
                        break
                assert ranked is not None  # the second candidates have their images
                return ranked

        snapshot = self.snapshot()
        together = exact or snapshot.gpus or not _runs_on_cpu(matcher)
        parts = [phrases] if together or len(phrases) == 1 else _divide(phrases)
        if len(parts) == 1:
            count = len(phrases)
            parts = [phrases[n : n + _PHRASES_AT_ONCE] for n in range(0, count, _PHRASES_AT_ONCE)]
            return [hits for part in parts for hits in answer(part)]
        from ..models.cpu_pool import cpu_pool

        # Phrases side by side, each in one thread: no step waits for another thread.
        return [hits for found in cpu_pool().map(answer, parts) for hits in found]

    @property
    def store(self) -> RegionStore:
        """What reads regions."""
        return self._store

    @property
    def has_metadata(self) -> bool:
        """Whether an image of the index has an id or metadata, as the last search saw it."""
        return self._snapshots.kept().has_metadata

    def snapshot(self) -> Snapshot:
        """Return the newest snapshot of the index."""
        return self._snapshots.latest()

    def candidates(
        self,
        phrases: Phrases,
        count: int,
        exact: bool = False,
        filters: Filters = _NO_FILTERS,
        *,
        named: bool = True,
        first: Snapshot | None = None,
    ) -> Candidates:
        """Return `count` candidate images for each phrase, with their regions.

        Unless they must be `named`, their paths may still have to be looked up. If the catalog
        changes meanwhile, the search restarts. The last attempt holds the catalog, so a writer has
        to wait for it. The `first` attempt may be given the newest snapshot.
        """
        for _ in range(_ATTEMPTS):
            snapshot, first = first or self.snapshot(), None
            try:
                found = find_candidates(
                    self._catalog, self._store, snapshot, phrases, count, exact, filters, named
                )
            except StoreError:  # a shard may have been compacted away before it was opened
                if self._catalog.generation == snapshot.generation:
                    raise
                found = None
            if found is not None:
                return found
            logger.debug("search restarted: the index changed during the search")
        with self._snapshots.held() as snapshot:
            found = find_candidates(
                self._catalog, self._store, snapshot, phrases, count, exact, filters
            )
        assert found is not None  # the catalog cannot change inside the block
        return found

    def open_shard(self, number: int) -> ShardReader:
        """Return the reader of a shard of the newest snapshot."""
        self._snapshots.latest()
        return self._store.open_shard(number)

    def pool(self, request: PoolRequest) -> Pool | None:
        """Return the images that a query looks at, or None if there are none.

        It restarts like :meth:`candidates`.
        """
        for _ in range(_ATTEMPTS):
            snapshot = self.snapshot()
            try:
                found = gather_pool(self._catalog, self._store, snapshot, request)
            except StoreError:  # a shard may have been compacted away before it was opened
                if self._catalog.generation == snapshot.generation:
                    raise
                found = None
            if found is not None:
                return found or None
            logger.debug("search restarted: the index changed during the search")
        with self._snapshots.held() as snapshot:
            found = gather_pool(self._catalog, self._store, snapshot, request)
        assert found is not None  # the catalog cannot change inside the block
        return found or None

    def regions_of(self, hit: Hit) -> tuple[RegionTable, int]:
        """Return the regions of a hit's image, and which of them is the hit.

        Raises
        ------
        StoreError
            If the image has been removed from the index, or its region has moved.
        """
        gone = StoreError(f"the index has changed, and {hit.image} with it; ask the query again")
        if hit.content_hash is None or hit.region_id is None:
            raise gone
        with self._catalog.reading():
            found = self._catalog.content_rows(hit.content_hash)
            self._store.refresh()
        for _, key in found:
            regions = self._store.gather([key])
            row = hit.region_id - self._store.region_id(key, 0)
            if 0 <= row < len(regions):
                return regions, row
        raise gone

    def regions_of_content(self, content_hash: str) -> RegionTable | None:
        """Return the regions of an image by its content; None if it is not in the index."""
        with self._catalog.reading():
            found = self._catalog.content_rows(content_hash)
            self._store.refresh()
        keys = [key for known, key in found if known == content_hash]
        return self._store.gather(keys[:1]) if keys else None

    def sample(self, images: int) -> RegionTable | None:
        """Return the regions of some images, evenly spread over the shards; None without any."""
        with self._catalog.reading():
            counts = self._catalog.shard_images()
            self._store.refresh()
        numbers, ends = list(counts), np.cumsum(list(counts.values()))
        total = int(ends[-1]) if numbers else 0
        chosen = np.unique(np.linspace(0, max(total - 1, 0), images).astype(np.int64))[:total]
        shards = np.searchsorted(ends, chosen, side="right")
        keys = [
            (numbers[shard], int(place - ends[shard] + counts[numbers[shard]]))
            for place, shard in zip(chosen.tolist(), shards.tolist(), strict=True)
        ]
        return self._store.gather(keys) if keys else None

    def close(self) -> None:
        """Close the shards."""
        self._store.close()

    def _rank(
        self,
        phrases: Phrases,
        candidates: Candidates,
        snapshot: Snapshot,
        matcher: Matcher,
        top: int,
        exact: bool,
        skip_missing: bool,
    ) -> list[list[Hit]] | None:
        """Return the hits of each phrase; None if the images that they are in have changed."""
        regions = candidates.regions
        if regions is None:
            return [[] for _ in phrases.texts]
        best, scores = find_best(matcher, phrases, candidates, self._passes, snapshot.state, exact)
        searched = snapshot.images
        probabilities = best_probabilities(matcher, scores, best, candidates.positions(), searched)
        orders = [
            positions[np.argsort(-scores[best[positions]], kind="stable")].tolist()
            for positions in candidates.positions()
        ]
        keys, starts = candidates.keys, regions.offsets.tolist()
        images = candidates.images
        if images is None:
            # Only of the first, unless some of these may have to be left out.
            shown = None if skip_missing else top
            wanted = dict.fromkeys(keys[number] for order in orders for number in order[:shown])
            images = self._images_at(list(wanted), candidates.generation)
            if images is None:
                return None
        ranked = []
        for phrase, order in zip(phrases.texts, orders, strict=True):
            hits: list[Hit] = []
            for position in order:
                if len(hits) >= top:
                    break
                row = int(best[position])
                region_id = candidates.first_ids[position] + row - starts[position]
                for image in images[keys[position]]:
                    hit = make_hit(
                        phrase,
                        image.path,
                        regions,
                        row,
                        scores,
                        probabilities,
                        region_id=region_id,
                        content_hash=image.content_hash,
                    )
                    if not (skip_missing and hit.missing):
                        hits.append(hit)
            ranked.append(hits[:top])
        return ranked

    def _images_at(
        self, keys: list[RowKey], generation: int
    ) -> dict[RowKey, list[ImageRow]] | None:
        """Return the images that use rows; None if they may be others than in `generation`."""
        with self._catalog.reading():
            if self._catalog.generation != generation:
                return None
            images = self._catalog.images_at(keys)
        return images if len(images) == len(keys) else None


def _runs_on_cpu(matcher: Matcher) -> bool:
    """Return whether a matcher runs on a CPU, or does not say where."""
    inner = matcher.base if isinstance(matcher, FeedbackMatcher) else matcher
    device = getattr(inner, "device", None)
    return getattr(device, "type", "cpu") == "cpu"


def _divide(phrases: Phrases) -> list[Phrases]:
    """Divide phrases among the threads of the pool, a few at a time."""
    from ..models.cpu_pool import cpu_pool

    size = min(_PHRASES_AT_ONCE, -(-len(phrases) // cpu_pool().size))
    return [phrases[start : start + size] for start in range(0, len(phrases), size)]
