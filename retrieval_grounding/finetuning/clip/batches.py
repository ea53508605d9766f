"""Batches for fine-tuning: images with their regions and phrases, and which pairs say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...core.groups import is_group
from ...core.regions import pairwise_iou
from .examples import DescribedImage
from .meaning import Shown, content_words, may_fit

__all__ = ["RegionBatch", "RegionSampler", "target_weights"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_PHRASES = 8
_SURE = 0.3
_NO_TARGET = 0.45
_POSITIVE = 0.5
_CLEARLY_OTHER = 0.3  # a part of the target overlaps it less; what does more is left out


@dataclass(frozen=True)
class RegionBatch:
    """One batch; every text and every region is embedded once.

    Parameters
    ----------
    rows : int array of shape (r,)
        Rows in the cache: all regions of some images; the first of each is the whole image.
    images : int array of shape (r,)
        Number of each region's image in the batch.
    phrases : list of m str
        What people said of regions of these images.
    own : int array of shape (m,)
        Number of each phrase's image.
    targets : float32 array of shape (m, r)
        How well each region is what the phrase means, 0 for other images.
    unclear : bool array of shape (m, r)
        Regions that are neither right nor wrong: of other images that may fit, too, and of the own
        image that overlap the target, but not enough.
    captioned : list of (int, str)
        Number of an image and one of its captions.
    """

    rows: IntArray
    images: IntArray
    phrases: list[str]
    own: IntArray
    targets: FloatArray
    unclear: BoolArray
    captioned: list[tuple[int, str]]


class RegionSampler:
    """Draws batches; number n is always the same, so that a resumed run goes on as it would have.

    Parameters
    ----------
    images : sequence of DescribedImage
        Training images.
    numbers : sequence of int
        Numbers of those that can be used.
    offsets : int64 array
        Rows ``offsets[i]:offsets[i + 1]`` of the cache belong to image i.
    count : int
        Images in a batch.
    seed : int
        For every draw.
    """

    def __init__(
        self,
        images: Sequence[DescribedImage],
        numbers: Sequence[int],
        offsets: IntArray,
        count: int,
        seed: int,
    ) -> None:
        self._images = images
        self._numbers = np.array(numbers, np.int64)
        self._offsets = offsets
        self._count = min(count, len(numbers))
        self._seed = seed
        self._said: dict[int, frozenset[str]] = {}

    def draw(self, number: int) -> RegionBatch:
        """Return batch number `number`; no image occurs twice in one pass over all of them."""
        random = np.random.default_rng([self._seed, number])
        batches = max(1, len(self._numbers) // self._count)
        turn, place = divmod(number, batches)
        order = np.random.default_rng([self._seed, turn, 1]).permutation(self._numbers)
        chosen = order[place * self._count : (place + 1) * self._count].tolist()
        rows, of_image, phrases, own, labels = [], [], [], [], []
        targets, close, described, captioned = [], [], [], []
        for at, which in enumerate(chosen):
            image = self._images[which]
            some = random.permutation(len(image.phrases))[:_PHRASES]
            overlaps = pairwise_iou(image.targets, image.boxes)
            rows.append(np.arange(self._offsets[which], self._offsets[which + 1]))
            of_image += [at] * len(image.boxes)
            labels += [
                label if score >= _SURE and row and not is_group(label) else ""
                for row, (label, score) in enumerate(
                    zip(image.labels, image.scores.tolist(), strict=True)
                )
            ]
            described += [
                [image.phrases[row] for row in np.flatnonzero(column >= _POSITIVE)]
                for column in overlaps.T
            ]
            phrases += [image.phrases[row] for row in some.tolist()]
            own += [at] * len(some)
            targets.append(target_weights(overlaps[some]))
            close.append((overlaps[some] >= _CLEARLY_OTHER) & (overlaps[some] < _POSITIVE))
            if image.captions:
                captioned.append((at, image.captions[random.integers(len(image.captions))]))
        owners, numbers = np.array(own, np.int64), np.array(of_image, np.int64)
        said = [self._words(which) for which in chosen]
        unclear = may_fit(phrases, owners, Shown(numbers, labels, described, said))
        return RegionBatch(
            rows=np.concatenate(rows).astype(np.int64),
            images=numbers,
            phrases=phrases,
            own=owners,
            targets=_block_diagonal(targets).astype(np.float32),
            unclear=unclear | _block_diagonal(close).astype(bool),
            captioned=captioned,
        )

    def _words(self, number: int) -> frozenset[str]:
        """Return all words that people said of an image."""
        if number not in self._said:
            image = self._images[number]
            texts = (*image.phrases, *image.captions)
            self._said[number] = frozenset().union(*map(content_words, texts))
        return self._said[number]


def target_weights(overlaps: FloatArray) -> FloatArray:
    """Return how well regions are what phrases mean, from their IoU: 0 below a half.

    Examples
    --------
    >>> target_weights(np.array([0.2, 0.45, 0.5, 1.0], np.float32)).round(2).tolist()
    [0.0, 0.0, 0.05000000074505806, 0.550000011920929]
    """
    weights: FloatArray = np.where(overlaps >= _POSITIVE, overlaps - _NO_TARGET, 0)
    return weights.astype(np.float32)


def _block_diagonal(blocks: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.float32]:
    whole = np.zeros(np.sum([block.shape for block in blocks], axis=0), np.float32)
    top = left = 0
    for block in blocks:
        whole[top : top + block.shape[0], left : left + block.shape[1]] = block
        top, left = top + block.shape[0], left + block.shape[1]
    return whole
