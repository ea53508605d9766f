"""Querying: phrases → nearest regions → candidate images → all their regions → matcher → hits."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..core.errors import StoreError
from ..core.hits import Hit
from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from ..core.types import RowKey
from ..matching.matcher import Matcher
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from ..storage.rows import ImageRow
from ..storage.vectors.exact import ShardVectors
from ..storage.vectors.faiss_index import FaissIndex
from ..storage.vectors.gpu import copy_to_gpus
from ..storage.vectors.load import load_vectors
from ..storage.vectors.metadata import VectorMetadata, read_metadata
from ..storage.vectors.search import VectorSearch
from .rank import _box, best_regions

__all__ = ["Searcher"]


_ATTEMPTS = 3
_PHRASES_AT_ONCE = 64  # whose candidates' regions are held together


@dataclass(frozen=True)
class _Candidates:
    """The candidate images of some phrases, each with its own.

    Parameters
    ----------
    wanted : list of lists of RowKey
        Each phrase's, best first.
    images : dict
        The paths that point to them.
    """

    wanted: list[list[RowKey]]
    images: dict[RowKey, list[ImageRow]]

    @property
    def keys(self) -> list[RowKey]:
        """All phrases' candidates, one phrase after the other."""
        return [key for own in self.wanted for key in own]

    @property
    def asked(self) -> npt.NDArray[np.int64]:
        """The phrase that each of `keys` is a candidate of."""
        return np.repeat(np.arange(len(self.wanted)), [len(own) for own in self.wanted])


@dataclass(frozen=True)
class _State:
    """What is searched while the catalog has one generation; never changed."""

    generation: int
    vectors: VectorSearch
    index: FaissIndex | None
    record: VectorMetadata


class Searcher:
    """Answers phrases from an index's shards and vectors; threads may share it.

    Each search (64 phrases of it at a time) answers from one state of the index, the newest that
    was committed when it began; writers may go on meanwhile. Only short questions to the catalog
    are asked in turns.

    Parameters
    ----------
    catalog : Catalog
        Says which images are in the index.
    device : str
        ``"cuda"`` lets FAISS search on the GPUs, where the package for GPUs is installed.
    """

    def __init__(self, catalog: Catalog, device: str = "cpu") -> None:
        self._catalog = catalog
        self._device = device
        self._store = RegionStore(catalog)
        self._following = threading.Lock()
        self._known: _State | None = None

    def search(
        self,
        phrases: Phrases,
        matcher: Matcher,
        top: int,
        candidates: int,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """Return the best region of each of the `top` best images, for each phrase.

        Parameters
        ----------
        phrases : Phrases
            What to find.
        matcher : Matcher
            Scores the regions of candidate images.
        top : int
            Hits wanted.
        candidates : int
            Images taken from the vector index for each phrase.
        exact : bool
            Compare every region with each phrase, whatever the kind of the vector index.
        """
        hits: list[list[Hit]] = []
        for start in range(0, len(phrases), _PHRASES_AT_ONCE):
            part = phrases[start : start + _PHRASES_AT_ONCE]
            hits += self._search(part, matcher, top, max(candidates, top), exact)
        return hits

    def _search(
        self, phrases: Phrases, matcher: Matcher, top: int, candidates: int, exact: bool
    ) -> list[list[Hit]]:
        found, regions = self._candidates(phrases, candidates, exact)
        if regions is None:
            return [[] for _ in phrases.texts]
        scores = matcher.score_pairs(phrases, regions, found.asked)
        chances = matcher.probabilities(scores)
        best = best_regions(scores, regions.offsets)
        hits, keys, starts = [], found.keys, regions.offsets.tolist()
        for phrase, own in zip(phrases.texts, _runs(found.wanted), strict=True):
            ranked = own[np.argsort(-scores[best[own]], kind="stable")]
            rows = best[ranked]
            hits.append(
                [
                    Hit(
                        phrase=phrase,
                        image=image.path,
                        box=_box(regions.boxes[row]),
                        score=float(scores[row]),
                        probability=None if chances is None else float(chances[row]),
                        label=regions.label(row),
                        region_id=self._store.region_id(keys[number], row - starts[number]),
                        content_hash=image.content_hash,
                    )
                    for number, row in zip(ranked[:top].tolist(), rows.tolist(), strict=False)
                    for image in found.images[keys[number]]
                ][:top]
            )
        return hits

    def follow(self) -> _State:
        """Return the newest state of the index, which costs one question if none is new."""
        with self._following:
            known = self._known
            if known is not None and known.generation == self._catalog.generation:
                return known
            with self._catalog.reading():
                generation, record = self._catalog.generation, read_metadata(self._catalog)
                self._store.refresh()
                files = self._store.files
            index, record = self._newest(known, record)
            covered = record.shards if index is not None else ()
            vectors = VectorSearch(files, self._store.open_shard, index, covered, record.tuning)
            self._known = _State(generation, vectors, index, record)
            return self._known

    def _newest(
        self, known: _State | None, record: VectorMetadata
    ) -> tuple[FaissIndex | None, VectorMetadata]:
        """Return the vector index that the catalog names, or the one before if it is damaged."""
        if known is not None and record.checksum == known.record.checksum:
            return known.index, known.record
        stored = ShardVectors(record.shards, self._store.open_shard)
        if record.kind and (copied := copy_to_gpus(stored, self._catalog.dimension, self._device)):
            return copied, replace(record, tuning=None)
        loaded = load_vectors(self._catalog, mapped=True)
        if loaded is not None:
            return loaded
        return (None, record) if known is None else (known.index, known.record)

    def _candidates(
        self, phrases: Phrases, count: int, exact: bool
    ) -> tuple[_Candidates, RegionTable | None]:
        """Return each phrase's candidates, and the regions of all; None if there are none.

        If the catalog moves on meanwhile, the search starts over; after some times it holds the
        catalog, so that a writer waits for it for once.
        """
        for _ in range(_ATTEMPTS):
            state = self.follow()
            try:
                found = self._gather(state, phrases, count, exact)
            except StoreError:  # a shard may have been compacted away before it was opened
                if self._catalog.generation == state.generation:
                    raise
                continue
            if found is not None:
                return found
        with self._catalog.reading():
            found = self._gather(self.follow(), phrases, count, exact)
        assert found is not None  # nothing can move now
        return found

    def _gather(
        self, state: _State, phrases: Phrases, count: int, exact: bool
    ) -> tuple[_Candidates, RegionTable | None] | None:
        """Return what :meth:`_candidates` does, or None if the state is out of date."""
        found = _Candidates([[] for _ in phrases.texts], {})
        pending, wider = list(range(len(phrases))), 1
        while pending:
            # Many regions of one image may be near, so the search widens until there are enough.
            nearest, complete = state.vectors.nearest(
                phrases.embeddings[pending], count, wider=wider, exact=exact
            )
            keys = [self._image_keys(state, ids) for ids in nearest]
            with self._catalog.reading():
                if self._catalog.generation != state.generation:
                    return None
                for row, own in zip(pending, keys, strict=True):
                    found.wanted[row] = self._present(own, count, found.images)
            pending = [] if complete else [r for r in pending if len(found.wanted[r]) < count]
            wider *= 4
        if found.keys:
            return found, self._store.gather(found.keys)
        return None if self._catalog.generation != state.generation else (found, None)

    def _present(
        self, keys: list[RowKey], count: int, images: dict[RowKey, list[ImageRow]]
    ) -> list[RowKey]:
        """Return the first `count` keys that images point to, and add those to `images`."""
        present: list[RowKey] = []
        while keys and len(present) < count:
            part, keys = keys[: count - len(present)], keys[count - len(present) :]
            unknown = [key for key in part if key not in images]
            images |= self._catalog.images_at(unknown)
            present += [key for key in part if key in images]
        return present

    @staticmethod
    def _image_keys(state: _State, ids: npt.NDArray[np.int64]) -> list[RowKey]:
        keys = state.vectors.shard_vectors.images(ids).tolist()
        return list(dict.fromkeys((shard, row) for shard, row in keys if shard >= 0))


def _runs(groups: Sequence[Sequence[object]]) -> list[npt.NDArray[np.int64]]:
    """Return where each group's members stand when the groups follow one another."""
    ends = np.cumsum([len(group) for group in groups])
    return [np.arange(end - len(group), end) for group, end in zip(groups, ends, strict=True)]
