"""Querying: phrases → nearest regions → candidate images → all their regions → matcher → hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .hits import Hit
from .matching import ImageRegions, Matcher
from .regions import Regions
from .storage.catalog import Catalog, ImageRow
from .storage.shards import ShardReader, split_region_ids
from .vectors import VectorIndex

__all__ = ["Searcher", "best_regions"]

ImageKey = tuple[int, int]
"""Shard number and image row."""


@dataclass(frozen=True)
class _Candidates:
    """The regions of all candidate images of a batch, and where each image's begin."""

    keys: list[ImageKey]
    regions: ImageRegions
    ids: npt.NDArray[np.int64]


class Searcher:
    """Answers phrases from an index's shards and vectors.

    Parameters
    ----------
    catalog : Catalog
        Says which images are in the index.
    vectors : VectorIndex
        Finds candidate regions.
    """

    def __init__(self, catalog: Catalog, vectors: VectorIndex) -> None:
        self._catalog = catalog
        self._vectors = vectors
        self._files = catalog.shard_files()
        self._reader = lru_cache(maxsize=256)(self._open_shard)

    def search(
        self,
        phrases: Sequence[str],
        embeddings: npt.NDArray[np.float32],
        matcher: Matcher,
        top: int,
        candidates: int,
    ) -> list[list[Hit]]:
        """Return the best region of each of the `top` best images, for each phrase.

        Parameters
        ----------
        phrases : sequence of p str
            For the hits.
        embeddings : array of shape (p, d)
            The phrases' embeddings.
        matcher : Matcher
            Scores the regions of candidate images.
        top : int
            Hits wanted.
        candidates : int
            Images taken from the vector index for each phrase.
        """
        wanted = [self._candidate_images(row, max(candidates, top)) for row in embeddings]
        keys = list(dict.fromkeys(key for images in wanted for key in images))
        if not keys:
            return [[] for _ in phrases]
        gathered = self._gather(keys)
        scores = matcher.score(embeddings, gathered.regions)
        position = {key: number for number, key in enumerate(gathered.keys)}
        return [
            self._hits(phrase, row, gathered, [position[key] for key in images], top)
            for phrase, row, images in zip(phrases, scores, wanted, strict=True)
        ]

    def _candidate_images(
        self, embedding: npt.NDArray[np.float32], count: int
    ) -> dict[ImageKey, list[ImageRow]]:
        """Return the `count` images whose regions lie nearest, by place in the shards.

        Many regions of one image may be near, so the search widens until there are enough.
        """
        k = 4 * count
        while True:
            _, ids = self._vectors.search(embedding[None], k)
            found: dict[ImageKey, list[ImageRow]] = {}
            for key in self._image_keys(ids[0][ids[0] >= 0]):
                if key not in found and (images := self._catalog.images_at(*key)):
                    found[key] = images
                if len(found) == count:
                    return found
            if k >= len(self._vectors):
                return found
            k *= 4

    def _image_keys(self, ids: npt.NDArray[np.int64]) -> list[ImageKey]:
        shards, rows = split_region_ids(ids)
        images = np.empty_like(rows)
        for number in np.unique(shards).tolist():
            if number in self._files:
                inside = shards == number
                images[inside] = self._reader(number).image_rows(rows[inside])
        known = np.isin(shards, list(self._files))
        return list(dict.fromkeys(zip(shards[known].tolist(), images[known].tolist(), strict=True)))

    def _gather(self, keys: Sequence[ImageKey]) -> _Candidates:
        embeddings, boxes, scores, labels, ids = [], [], [], [], []
        for shard, row in keys:
            reader = self._reader(shard)
            rows = reader.image_slice(row)
            embeddings.append(reader.embeddings[rows])
            boxes.append(reader.boxes[rows])
            scores.append(reader.scores[rows])
            labels += [reader.label_names[code] for code in reader.labels[rows]]
            ids.append(reader.ids[rows])
        offsets = np.cumsum([0, *(len(part) for part in ids)]).astype(np.int64)
        regions = ImageRegions(
            np.concatenate(embeddings),
            np.concatenate(boxes),
            np.concatenate(scores),
            labels,
            offsets,
        )
        return _Candidates(list(keys), regions, np.concatenate(ids))

    def _hits(
        self,
        phrase: str,
        scores: npt.NDArray[np.float32],
        gathered: _Candidates,
        images: Sequence[int],
        top: int,
    ) -> list[Hit]:
        rows = best_regions(scores, gathered.regions.offsets)
        ranked = sorted(images, key=lambda image: -scores[rows[image]])
        hits: list[Hit] = []
        for image in ranked:
            row = int(rows[image])
            box = gathered.regions.boxes[row]
            for stored in self._catalog.images_at(*gathered.keys[image]):
                hits.append(
                    Hit(
                        phrase=phrase,
                        image=stored.path,
                        box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                        score=float(scores[row]),
                        probability=None,
                        label=gathered.regions.labels[row],
                        region_id=int(gathered.ids[row]),
                    )
                )
            if len(hits) >= top:
                break
        return hits[:top]

    def _open_shard(self, number: int) -> ShardReader:
        return ShardReader(self._catalog.directory / "shards" / self._files[number], number)


def best_regions(
    scores: npt.NDArray[np.float32], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the row of the best region of each image.

    Parameters
    ----------
    scores : array of shape (n,)
        Of all regions.
    offsets : array of shape (images + 1,)
        Rows ``offsets[i]:offsets[i + 1]`` belong to image i; none is empty.

    Examples
    --------
    >>> best_regions(np.array([0.1, 0.9, 0.5, 0.2], np.float32), np.array([0, 2, 4])).tolist()
    [1, 2]
    """
    pairs = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    return np.array([start + int(np.argmax(scores[start:end])) for start, end in pairs], np.int64)


def ground_regions(
    phrase: str,
    embedding: npt.NDArray[np.float32],
    image: str,
    regions: Regions,
    region_embeddings: npt.NDArray[np.float32],
    matcher: Matcher,
    top: int,
) -> list[Hit]:
    """Return the `top` best regions of one image, best first."""
    table = ImageRegions(
        region_embeddings,
        regions.boxes,
        regions.scores,
        list(regions.labels),
        np.array([0, len(regions)]),
    )
    scores = matcher.score(embedding[None], table)[0]
    order = np.argsort(-scores, kind="stable")[:top]
    return [
        Hit(
            phrase=phrase,
            image=image,
            box=(float(x1), float(y1), float(x2), float(y2)),
            score=float(scores[row]),
            probability=None,
            label=regions.labels[row],
            region_id=None,
        )
        for row in order.tolist()
        for x1, y1, x2, y2 in [regions.boxes[row]]
    ]
