"""Cached regions in the place of an index, for the product's own training of matchers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retrieval_grounding.core.groups import group_label, label_phrase
from retrieval_grounding.core.region_table import RegionTable
from retrieval_grounding.core.regions import WHOLE_IMAGE
from retrieval_grounding.core.types import RowKey
from retrieval_grounding.models.checks import encode_phrases
from retrieval_grounding.models.encoder import Encoder
from retrieval_grounding.models.naming import Namer

from .dual_encoder import DualEncoder
from .naming import rename_cached
from .regions import GROUP, WHOLE, RegionCache

_BYTES_BESIDE_EMBEDDING = 4 * 4 + 4 + 8 + 11


class CachedStore:
    """Gives the regions of cached photographs as `RegionStore` does, without the human boxes.

    The key of a photograph is the number of its cache and its number there.

    Parameters
    ----------
    caches : sequence of RegionCache
        Caches of detectors that know the same classes.
    dual : DualEncoder
        Embeds the cached maps.
    encoder : Encoder
        The same encoder as the library loads it, for labels.
    namers : sequence of Namer or None
        What names the regions of each cache, unless its detector does.
    """

    def __init__(
        self,
        caches: Sequence[RegionCache],
        dual: DualEncoder,
        encoder: Encoder,
        namers: Sequence[Namer | None],
    ) -> None:
        classes = caches[0].classes
        if any(cache.classes != classes for cache in caches):
            raise ValueError("the detectors of the caches know different classes")
        self._embeddings = [dual.embed_maps(cache.maps).astype(np.float16) for cache in caches]
        self._caches = [
            cache if namer is None else rename_cached(cache, embeddings, namer)
            for cache, embeddings, namer in zip(caches, self._embeddings, namers, strict=True)
        ]
        self._names = [WHOLE_IMAGE, *classes, *map(group_label, classes)]
        self._label_embeddings = encode_phrases(encoder, list(map(label_phrase, self._names)))
        self._label_embeddings[0] = 0

    def bytes_of(self, keys: Sequence[RowKey]) -> int:
        """Return about how many bytes :meth:`gather` needs."""
        width = 2 * self._embeddings[0].shape[1] + _BYTES_BESIDE_EMBEDDING
        return sum(len(self._caches[cache].indexed_rows(photo)) for cache, photo in keys) * width

    def gather(self, keys: Sequence[RowKey]) -> RegionTable:
        """Return the regions of photographs as one table, in the order of `keys`."""
        parts = [
            (self._caches[cache], self._embeddings[cache], self._caches[cache].indexed_rows(photo))
            for cache, photo in keys
        ]
        counts = [len(rows) for _, _, rows in parts]
        sizes = [self._caches[cache].sizes[photo] for cache, photo in keys]
        pixels = np.tile(np.repeat(np.array(sizes, np.float32), counts, axis=0), (1, 2))
        return RegionTable(
            embeddings=np.concatenate([embeddings[rows] for _, embeddings, rows in parts]),
            boxes=np.concatenate([cache.boxes[rows] for cache, _, rows in parts]) * pixels,
            scores=np.concatenate([cache.scores[rows] for cache, _, rows in parts]),
            labels=np.concatenate([self._codes(cache, rows) for cache, _, rows in parts]),
            colors=np.concatenate([cache.colors[rows] for cache, _, rows in parts]),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            label_names=self._names,
            label_embeddings=self._label_embeddings,
        )

    def _codes(self, cache: RegionCache, rows: np.ndarray) -> np.ndarray:
        """Return the places of labels in `_names`: whole image, classes, groups."""
        kinds, labels = cache.kinds[rows], cache.labels[rows].astype(np.int64)
        codes: np.ndarray = np.where(kinds == GROUP, 1 + len(cache.classes) + labels, 1 + labels)
        codes[kinds == WHOLE] = 0
        return codes
