"""Querying: phrases → nearest regions → candidate images → all their regions → matcher → hits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import GroundingError, StoreError
from .gathering import ImageKey, RegionStore
from .hits import Hit
from .matching import Matcher
from .storage.catalog import Catalog, ImageRow
from .storage.shards import split_region_ids
from .tables import Phrases, RegionTable
from .vectors.flat import FlatVectorIndex
from .vectors.following import follow, load_vectors

__all__ = ["Searcher", "best_regions", "probable_hits", "rank_regions"]


@dataclass(frozen=True)
class _Candidates:
    """The regions of all candidate images of a batch, and where each image's begin."""

    images: dict[ImageKey, list[ImageRow]]
    regions: RegionTable
    ids: npt.NDArray[np.int64]


class Searcher:
    """Answers phrases from an index's shards and vectors.

    Each search answers from one state of the index, the newest that was committed when it began;
    writers may go on meanwhile.

    Parameters
    ----------
    catalog : Catalog
        Says which images are in the index.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._vectors = load_vectors(catalog) or FlatVectorIndex(catalog.dimension)
        self._generation: int | None = None
        self._store = RegionStore(catalog)
        self._lock = threading.Lock()

    def search(
        self,
        phrases: Phrases,
        matcher: Matcher,
        top: int,
        candidates: int,
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
        """
        with self._lock:
            # This may take long, so it must not keep writers waiting. It fails if a shard is
            # compacted away meanwhile; any other error comes again below.
            with contextlib.suppress(StoreError):
                self._follow()
            with self._catalog.reading():
                self._follow()
                gathered, wanted = self._gather(phrases, max(candidates, top))
        if gathered is None:
            return [[] for _ in phrases.texts]
        scores = matcher.score(phrases, gathered.regions)
        chances = matcher.probabilities(scores)
        position = {key: number for number, key in enumerate(gathered.images)}
        return [
            self._hits(
                phrase,
                scores[row],
                None if chances is None else chances[row],
                gathered,
                [position[key] for key in images],
                top,
            )
            for row, (phrase, images) in enumerate(zip(phrases.texts, wanted, strict=True))
        ]

    def _follow(self) -> None:
        if self._catalog.generation != self._generation:
            self._vectors, self._generation, _ = follow(self._catalog, self._vectors)
            self._store.refresh()

    def _gather(
        self, phrases: Phrases, candidates: int
    ) -> tuple[_Candidates | None, list[list[ImageKey]]]:
        """Return the regions of all candidate images, and each phrase's candidates."""
        wanted = [self._candidate_images(row, candidates) for row in phrases.embeddings]
        images = {key: rows for found in wanted for key, rows in found.items()}
        if not images:
            return None, []
        keys = list(images)
        gathered = _Candidates(images, self._store.gather(keys), self._store.region_ids(keys))
        return gathered, [list(found) for found in wanted]

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
            if number in self._store.files:
                inside = shards == number
                reader, _ = self._store.reader(number)
                images[inside] = reader.image_rows(rows[inside])
        known = np.isin(shards, list(self._store.files))
        return list(dict.fromkeys(zip(shards[known].tolist(), images[known].tolist(), strict=True)))

    def _hits(
        self,
        phrase: str,
        scores: npt.NDArray[np.float32],
        chances: npt.NDArray[np.float32] | None,
        gathered: _Candidates,
        images: Sequence[int],
        top: int,
    ) -> list[Hit]:
        rows = best_regions(scores, gathered.regions.offsets)
        ranked = sorted(images, key=lambda image: -scores[rows[image]])
        places = list(gathered.images.values())
        hits: list[Hit] = []
        for image in ranked:
            row = int(rows[image])
            box = gathered.regions.boxes[row]
            for stored in places[image]:
                hits.append(
                    Hit(
                        phrase=phrase,
                        image=stored.path,
                        box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                        score=float(scores[row]),
                        probability=None if chances is None else float(chances[row]),
                        label=gathered.regions.label(row),
                        region_id=int(gathered.ids[row]),
                        content_hash=stored.content_hash,
                    )
                )
            if len(hits) >= top:
                break
        return hits[:top]


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


def rank_regions(
    phrases: Phrases, image: str, regions: RegionTable, matcher: Matcher, top: int
) -> list[list[Hit]]:
    """Return the `top` best regions of the one image in `regions`, for each phrase."""
    ranked = []
    all_scores = matcher.score(phrases, regions)
    all_chances = matcher.probabilities(all_scores)
    for number, (phrase, scores) in enumerate(zip(phrases.texts, all_scores, strict=True)):
        chances = None if all_chances is None else all_chances[number]
        hits = []
        for row in np.argsort(-scores, kind="stable")[:top].tolist():
            x1, y1, x2, y2 = regions.boxes[row].tolist()
            hits.append(
                Hit(
                    phrase=phrase,
                    image=image,
                    box=(x1, y1, x2, y2),
                    score=float(scores[row]),
                    probability=None if chances is None else float(chances[row]),
                    label=regions.label(row),
                    region_id=None,
                )
            )
        ranked.append(hits)
    return ranked


def probable_hits(hits: list[Hit], least: float) -> list[Hit]:
    """Return the hits with a probability of at least `least`; 0 takes all.

    Raises
    ------
    GroundingError
        If `least` is no probability, or the hits have none because no matcher is calibrated.
    """
    if not 0 <= least <= 1:
        raise GroundingError(f"{least} is no probability; give one from 0 to 1")
    if not least:
        return hits
    if any(hit.probability is None for hit in hits):
        raise GroundingError(
            "these hits have no probabilities, since no calibrated matcher fits this encoder; "
            "train one with 'retrieval-grounding train'"
        )
    return [hit for hit in hits if hit.probability is not None and hit.probability >= least]
