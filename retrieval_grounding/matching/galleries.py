"""Galleries: the best hits of phrases in collections of several sizes, and whether they are right.

A query shows the best of many images, whose score says less than that of an image drawn at random.
So probabilities are fitted to what queries show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases
from ..core.progress import progress_bar
from ..core.region_table import RegionTable
from ..core.regions import pairwise_iou
from ..core.types import RowKey
from . import checks
from .matcher import Matcher
from .relevance import ABSENT, SHOWN, UNKNOWN

__all__ = ["HITS", "GalleryHits", "GalleryQueries", "gallery_sizes", "search_galleries"]


HITS = 12
"""Hits kept of each search."""

_CANDIDATES = 50
_IMAGES_AT_ONCE = 512
_SAME_OBJECT = 0.5
_FEW_LEFT = 0.5


class Regions(Protocol):
    """Where regions are read: :class:`..storage.region_store.RegionStore`, or several as one."""

    def gather(self, keys: Sequence[RowKey]) -> RegionTable:
        """Return the regions of images as one table, in the order of `keys`."""
        ...


@dataclass(frozen=True)
class GalleryQueries:
    """Phrases to search for, and what is known about the images of a collection.

    Parameters
    ----------
    phrases : Phrases
        q phrases.
    own : int64 array of shape (q,)
        Number of the image that each phrase describes.
    boxes : sequence of q float32 arrays of shape (b, 4)
        Where in its own image, as fractions of width and height; b is 0 if that is not known.
    relevance : int8 array of shape (q, n)
        Which of n images show what the phrase describes; see :func:`.relevance.relevance`.
    undetected : bool array of shape (q,)
        Whether to leave out regions of the phrase's image that overlap `boxes`, as if the detector
        had missed the object.
    """

    phrases: Phrases
    own: npt.NDArray[np.int64]
    boxes: Sequence[npt.NDArray[np.float32]]
    relevance: npt.NDArray[np.int8]
    undetected: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of phrases."""
        return len(self.phrases)


@dataclass(frozen=True)
class GalleryHits:
    """The best hits of g searches, best first; one for each image.

    Parameters
    ----------
    query : int64 array of shape (g,)
        Row of each search's phrase.
    images : int64 array of shape (g,)
        Number of images in the gallery.
    own_in : bool array of shape (g,)
        Whether the image that the phrase describes is in the gallery. If it is not, neither is any
        that may show the same.
    scores : float32 array of shape (g, HITS)
        NaN where the gallery has fewer images.
    shows : int8 array of shape (g, HITS)
        Whether the image shows what the phrase describes: :data:`.relevance.SHOWN`,
        :data:`.relevance.ABSENT` or :data:`.relevance.UNKNOWN`.
    box : int8 array of shape (g, HITS)
        Likewise, whether the best region of an image that shows it is the right one.
    """

    query: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]
    own_in: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float32]
    shows: npt.NDArray[np.int8]
    box: npt.NDArray[np.int8]

    def __len__(self) -> int:
        """Return the number of searches."""
        return len(self.query)

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> GalleryHits:
        """Return the searches of `rows`."""
        return GalleryHits(
            self.query[rows], self.images[rows], self.own_in[rows],
            self.scores[rows], self.shows[rows], self.box[rows],
        )  # fmt: skip


def gallery_sizes(images: int) -> list[int]:
    """Return the sizes of galleries to draw from a collection: powers of ten, and all of it.

    Examples
    --------
    >>> gallery_sizes(3000)
    [1, 10, 100, 1000, 3000]
    """
    return [*(10**power for power in range(20) if 2 * 10**power <= images), images]


def search_galleries(
    matcher: Matcher,
    store: Regions,
    keys: Sequence[RowKey],
    queries: GalleryQueries,
    sizes: Sequence[int],
    seed: int,
) -> GalleryHits:
    """Search for phrases in galleries drawn from a collection, with and without their own images.

    As in a query, images are proposed by cosine and scored by the matcher.

    Parameters
    ----------
    matcher : Matcher
        Scores the regions.
    store : Regions
        Reads them.
    keys : sequence of n (shard, row)
        The collection.
    queries : GalleryQueries
        What to search for, and what is known about the images.
    sizes : sequence of int
        Images in a gallery. There is none without the own image where too few images certainly
        lack what the phrase describes.
    seed : int
        Seed of the draws.
    """
    similarity = _image_cosines(store, keys, queries.phrases)
    random = np.random.default_rng(seed)
    found = _Found()
    with progress_bar("Calibrating", len(queries), "phrases") as advance:
        for row in range(len(queries)):
            galleries = _draw(queries, row, len(keys), sizes, random)
            nearest = [_nearest(similarity[row], members) for members, _ in galleries]
            images = np.unique(np.concatenate(nearest))
            scores, box = _score(matcher, store, keys, queries, row, images)
            for (members, own_in), candidates in zip(galleries, nearest, strict=True):
                found.add(queries, row, images, scores, box, candidates, len(members), own_in)
            advance(1)
    return found.hits()


class _Found:
    """Collects searches."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, bool]] = []
        self._scores: list[npt.NDArray[np.float32]] = []
        self._shows: list[npt.NDArray[np.int8]] = []
        self._box: list[npt.NDArray[np.int8]] = []

    def add(
        self,
        queries: GalleryQueries,
        row: int,
        images: npt.NDArray[np.int64],
        scores: npt.NDArray[np.float32],
        box: npt.NDArray[np.int8],
        candidates: npt.NDArray[np.int64],
        size: int,
        own_in: bool,
    ) -> None:
        """Add the best of `candidates`, which are among `images`."""
        places = np.searchsorted(images, candidates)
        places = places[np.argsort(-scores[places], kind="stable")[:HITS]]
        missing = HITS - len(places)
        shows = queries.relevance[row, images[places]].copy()
        shows[images[places] == queries.own[row]] = SHOWN
        self._rows.append((row, size, own_in))
        self._scores.append(np.pad(scores[places], (0, missing), constant_values=np.nan))
        self._shows.append(np.pad(shows, (0, missing), constant_values=UNKNOWN))
        self._box.append(np.pad(box[places], (0, missing), constant_values=UNKNOWN))

    def hits(self) -> GalleryHits:
        """Return all searches."""
        query, images, own_in = (np.array(column) for column in zip(*self._rows, strict=True))
        return GalleryHits(
            query, images, own_in,
            np.array(self._scores), np.array(self._shows), np.array(self._box),
        )  # fmt: skip


def _image_cosines(
    store: Regions, keys: Sequence[RowKey], phrases: Phrases
) -> npt.NDArray[np.float32]:
    """Return the cosine of each phrase and the nearest region of each image, (q, n)."""
    found = np.empty((len(phrases), len(keys)), np.float32)
    for start in range(0, len(keys), _IMAGES_AT_ONCE):
        table = store.gather(keys[start : start + _IMAGES_AT_ONCE])
        cosines = phrases.embeddings @ table.embeddings.astype(np.float32).T
        stop = start + len(table.offsets) - 1
        found[:, start:stop] = np.maximum.reduceat(cosines, table.offsets[:-1], axis=1)
    return found


def _draw(
    queries: GalleryQueries,
    row: int,
    images: int,
    sizes: Sequence[int],
    random: np.random.Generator,
) -> list[tuple[npt.NDArray[np.int64], bool]]:
    """Return the images of each gallery for a phrase, and whether its own is among them."""
    own = int(queries.own[row])
    order = random.permutation(images)
    others = order[order != own]
    absent = others[queries.relevance[row, others] == ABSENT]
    galleries = []
    for size in sizes:
        galleries.append((np.append(others[: size - 1], own), True))
        if len(absent) >= max(1, _FEW_LEFT * size):
            galleries.append((absent[:size], False))
    return galleries


def _nearest(
    similarity: npt.NDArray[np.float32], members: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the members that a query would score."""
    if len(members) <= _CANDIDATES:
        return members
    nearest = np.argpartition(-similarity[members], _CANDIDATES)[:_CANDIDATES]
    candidates: npt.NDArray[np.int64] = members[nearest]
    return candidates


def _score(
    matcher: Matcher,
    store: Regions,
    keys: Sequence[RowKey],
    queries: GalleryQueries,
    row: int,
    images: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """Return the best score in each image, and whether its region is right in the own image."""
    phrase = queries.phrases[row : row + 1]
    table = store.gather([keys[image] for image in images.tolist()])
    scores = checks.score_pairs(matcher, phrase, table, np.zeros(len(images), np.int64))
    best = np.maximum.reduceat(scores, table.offsets[:-1])
    box = np.full(len(images), UNKNOWN, np.int8)
    place = int(np.searchsorted(images, queries.own[row]))
    if place == len(images) or images[place] != queries.own[row] or not len(queries.boxes[row]):
        return best, box
    regions = table.of_one_image(table.image(place))
    targets = queries.boxes[row] * np.tile(regions.boxes[0, 2:], 2)
    right = pairwise_iou(targets, regions.boxes).max(axis=0) >= _SAME_OBJECT
    if queries.undetected[row]:
        kept = ~right
        kept[0] = True  # the whole image
        regions, right = regions.of_one_image(kept), right[kept]
        own_scores = checks.score(matcher, phrase, regions)[0]
    else:
        own_scores = scores[table.image(place)]
    best[place] = own_scores.max()
    box[place] = SHOWN if right[own_scores.argmax()] else ABSENT
    return best, box
