"""What matchers do on held-out expressions: in their own images, and in a gallery of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.regions import pairwise_iou
from ..core.types import RowKey
from ..storage.region_store import RegionStore
from .anchored import anchored_scores
from .checks import score
from .dataset import Examples
from .matcher import Matcher

__all__ = ["HeldOut", "Outcome", "Scores"]


_MAX_EXAMPLES = 2000
_MAX_PHRASES = 300  # that are searched for in all images
_MAX_IMAGES = 200
_CORRECT_IOU = 0.5

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """The scores of one matcher on a :class:`HeldOut`; scores of several can be added.

    Parameters
    ----------
    own : float32 array of shape (n,)
        Of the n regions of all examples' own images, example by example.
    gallery : float32 array of shape (g, r)
        Of the r regions of the gallery, for g phrases.
    """

    own: FloatArray
    gallery: FloatArray

    def blended(self, other: Scores, weight: float, spreads: Sequence[float]) -> Scores:
        """Return the scores of a blend; see :class:`.blend.BlendMatcher`."""
        first, second = (1 - weight) / spreads[0], weight / spreads[1]
        return Scores(
            np.float32(first) * self.own + np.float32(second) * other.own,
            np.float32(first) * self.gallery + np.float32(second) * other.gallery,
        )


@dataclass(frozen=True)
class Outcome:
    """How right a matcher was, example by example.

    Parameters
    ----------
    images : int64 array of shape (e,)
        Number of each example's image.
    iou : float32 array of shape (e,)
        IoU of the best region of the image.
    rank : float64 array of shape (e,)
        Rank of the image among those of the gallery; NaN for examples that were not searched for.
    """

    images: npt.NDArray[np.int64]
    iou: FloatArray
    rank: npt.NDArray[np.float64]

    @property
    def reciprocal_rank(self) -> npt.NDArray[np.float64]:
        """1 for images that come first, 1/2 for the second, and so on; NaN as in `rank`."""
        return 1 / self.rank

    @property
    def image_recall(self) -> npt.NDArray[np.float64]:
        """Whether the image comes first; NaN as in `rank`."""
        return np.where(np.isnan(self.rank), np.nan, self.rank <= 1)

    @property
    def box_recall(self) -> npt.NDArray[np.float64]:
        """Whether the image comes first and its box is right; NaN as in `rank`."""
        return self.image_recall * (self.iou >= _CORRECT_IOU)

    @property
    def value(self) -> float:
        """What matchers are chosen by: mean IoU plus mean reciprocal rank."""
        searched = self.reciprocal_rank[np.isfinite(self.rank)]
        return float(self.iou.mean()) + (float(searched.mean()) if len(searched) else 0.0)

    def take(self, rows: npt.NDArray[np.bool_]) -> Outcome:
        """Return the outcome for some of the examples."""
        return Outcome(self.images[rows], self.iou[rows], self.rank[rows])


class HeldOut:
    """Located examples of images that training has not seen, at most 2,000, drawn at random.

    Up to 300 of their phrases are searched for in up to 200 of their images.

    Parameters
    ----------
    store : RegionStore
        Reads the regions.
    keys : sequence of (shard, row)
        ``keys[i]`` is the address of image i.
    examples : Examples
        Those without a box are left out.
    seed : int
        Seed of the draws.
    """

    def __init__(
        self, store: RegionStore, keys: Sequence[RowKey], examples: Examples, seed: int
    ) -> None:
        random = np.random.default_rng(seed)
        located = random.permutation(np.flatnonzero(examples.located))[:_MAX_EXAMPLES]
        chosen = examples.take(located[np.argsort(examples.image[located], kind="stable")])
        self.examples = chosen
        self._store, self._keys = store, keys
        every = np.unique(chosen.image)
        self._gallery = np.sort(random.permutation(every)[:_MAX_IMAGES])
        in_gallery = np.flatnonzero(np.isin(chosen.image, self._gallery))
        self._searched = np.sort(random.permutation(in_gallery)[:_MAX_PHRASES])
        self._tables = [(image, np.flatnonzero(chosen.image == image)) for image in every.tolist()]
        overlaps, counts, sizes = [], [], []
        for image, rows in self._tables:
            table = store.gather([keys[image]])
            targets = chosen.boxes[rows] * np.tile(table.boxes[0, 2:], 2)
            overlaps.append(pairwise_iou(targets, table.boxes).ravel())
            counts += [len(table)] * len(rows)
            if image in self._gallery:
                sizes.append(len(table))
        self._iou = np.concatenate(overlaps).astype(np.float32)
        self._offsets = np.cumsum([0, *counts])
        self._gallery_offsets = np.cumsum([0, *sizes])

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.examples)

    def scores(self, matcher: Matcher) -> Scores:
        """Return a matcher's scores of everything that is measured.

        Raises
        ------
        ModelError
            If a score is not finite.
        """
        examples, own, gallery = self.examples, [], []
        place = {image: number for number, image in enumerate(self._gallery.tolist())}
        phrases = examples.phrases[examples.phrase]
        for image, rows in self._tables:
            table = self._store.gather([self._keys[image]])
            asked = np.concatenate([rows, self._searched]) if image in place else rows
            found = score(matcher, phrases[asked], table)
            own.append(found[: len(rows)].ravel())
            if image in place:
                gallery.append(found[len(rows) :])
        return Scores(np.concatenate(own), np.concatenate(gallery, axis=1))

    def anchored(self, anchor: Scores, inner: Scores, spreads: Sequence[float]) -> Scores:
        """Return the scores of an :class:`.anchored.AnchoredMatcher`."""
        return Scores(
            anchored_scores(anchor.own, inner.own, self._offsets, spreads),
            anchored_scores(anchor.gallery, inner.gallery, self._gallery_offsets, spreads),
        )

    def variance(self, scores: Scores) -> float:
        """Return the mean variance of scores within an image."""
        counts = np.diff(self._offsets)
        own = scores.own.astype(np.float64)
        means, squares = (
            np.add.reduceat(values, self._offsets[:-1]) / counts for values in (own, own**2)
        )
        return float(np.maximum(squares - means**2, 0).mean())

    def outcome(self, scores: Scores) -> Outcome:
        """Return how right these scores are."""
        starts, ends = self._offsets[:-1].tolist(), self._offsets[1:].tolist()
        best = [a + int(scores.own[a:b].argmax()) for a, b in zip(starts, ends, strict=True)]
        by_image = np.maximum.reduceat(scores.gallery, self._gallery_offsets[:-1], axis=1)
        own_image = np.searchsorted(self._gallery, self.examples.image[self._searched])
        own = by_image[np.arange(len(own_image)), own_image]
        rank = np.full(len(self), np.nan)
        # Images with equal scores rank before the right one.
        rank[self._searched] = (by_image >= own[:, None]).sum(axis=1)
        return Outcome(self.examples.image, self._iou[best], rank)
