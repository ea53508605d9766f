"""Batches for fine-tuning: photographs with their regions and phrases, crops, whole photographs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from retrieval_grounding.core.colors import COLORS
from retrieval_grounding.core.regions import pairwise_iou
from retrieval_grounding.finetuning.clip.meaning import (
    Shown,
    content_words,
    facts_of,
    may_fit,
)
from retrieval_grounding.matching.language.changes import changed_phrases

from .entities import BoxedPhrase
from .regions import DETECTED, HUMAN, NO_LABEL, WHOLE, RegionCache
from .texts import COCO_NAMES, Caption

PHOTOS = 20

_PHRASES = 8
_HUMAN = 6
_FOUND = 9
_NAMED = 56
_CAPTIONS = 64
_CHANGED = 40
_COLORED = 7
_SURE = 0.3
_SMALLEST_NAMED = 0.08
_CLEAR_COLOR = 0.45
_NO_TARGET = 0.45  # IoU up to which a region is no target at all
_DESCRIBED = 0.5  # IoU from which a phrase is said of a region
_ONE_OF_SEVERAL = 0.9
_OF_THE_TARGET = frozenset(
    "color size age material pattern shape state action count noun part".split()
)
"""Changes that a crop can show; places and relations it cannot."""

_NAMES = frozenset(COCO_NAMES)
_OF_PERSONS = ("person in {}", "person wearing {}", "man in {}", "woman in {}", "{} shirt")


@dataclass(frozen=True)
class RegionBatch:
    """One batch; every text and every crop is embedded once.

    Parameters
    ----------
    regions, named, wholes : int arrays of shape (r,), (k,) and (c,)
        Rows in the cache: all regions of some photographs, single crops with a class name, and
        whole photographs with a caption.
    photos : int array of shape (r,)
        Number of each region's photograph in the batch.
    phrases : list of m str
        What people said of regions of these photographs.
    own : int array of shape (m,)
        Number of each phrase's photograph.
    targets : float32 array of shape (m, r)
        How well each region is what the phrase means, 0 for other photographs.
    unclear : bool array of shape (m, r)
        Regions of other photographs that may fit, too.
    labels : int array of shape (k,)
        COCO classes of the named crops.
    other_class : bool array of shape (m, k)
        Whether the phrase certainly means another class than the named crop's.
    captions : list of c str
        One for each whole photograph.
    changed : list of (int, str)
        Number of a phrase, and what it became when an attribute or the noun was changed.
    colors : list of (int, int)
        Number of a named crop of one clear color, and that color.
    color_phrases : list of str
        For each of `colors`, a phrase with each of the 11 colors.
    """

    regions: np.ndarray
    named: np.ndarray
    wholes: np.ndarray
    photos: np.ndarray
    phrases: list[str]
    own: np.ndarray
    targets: np.ndarray
    unclear: np.ndarray
    labels: np.ndarray
    other_class: np.ndarray
    captions: list[str]
    changed: list[tuple[int, str]]
    colors: list[tuple[int, int]]
    color_phrases: list[str]

    @property
    def rows(self) -> np.ndarray:
        """All rows of the cache that are needed, in the order regions, named, wholes."""
        return np.concatenate([self.regions, self.named, self.wholes])


class RegionSampler:
    """Draws batches.

    Parameters
    ----------
    cache : RegionCache
        Regions of the training photographs, with the teacher's labels.
    phrases : mapping of str to list of BoxedPhrase
        What people said of regions, by photograph.
    captions : sequence of Caption
        Captions of the photographs.
    left_out : collection of str
        Photographs that are never drawn.
    seed : int
        For every draw.
    """

    def __init__(
        self,
        cache: RegionCache,
        phrases: Mapping[str, Sequence[BoxedPhrase]],
        captions: Sequence[Caption],
        left_out: Collection[str],
        seed: int,
    ) -> None:
        self._cache = cache
        self._random = np.random.default_rng(seed)
        self._changes = Random(seed)
        self._captions: dict[str, list[str]] = defaultdict(list)
        for caption in captions:
            self._captions[caption.photo].append(caption.text)
        self._phrases = phrases
        allowed = [number for number, name in enumerate(cache.names) if name not in left_out]
        self._described = [n for n in allowed if phrases.get(cache.names[n])]
        self._captioned = [n for n in allowed if cache.names[n] in self._captions]
        self._nameable, self._weights = self._nameable_crops(allowed)
        self._said: dict[int, frozenset[str]] = {}

    def __str__(self) -> str:
        return (
            f"{len(self._described)} photographs with human boxes, {len(self._captioned)} with "
            f"captions, {len(self._nameable)} crops with a class"
        )

    def draw(self) -> RegionBatch:
        """Return the next batch."""
        random, cache = self._random, self._cache
        chosen = _some(random, self._described, PHOTOS)
        rows, photos, texts, own, targets, described = [], [], [], [], [], []
        for number, photo in enumerate(chosen):
            kept = self._regions(photo)
            phrases = self._distinct_phrases(photo)
            overlaps = [_target_iou(phrase, cache.boxes[kept]) for phrase in phrases]
            described += self._said_of(photo, kept)
            rows.append(kept)
            photos += [number] * len(kept)
            texts += [phrase.text for phrase in phrases]
            own += [number] * len(phrases)
            targets.append(np.array(overlaps).reshape(len(phrases), len(kept)))
        regions, batch_photos, owners = np.concatenate(rows), np.array(photos), np.array(own)
        said = [self._words(photo) for photo in chosen]
        shown = Shown(batch_photos, self._sure_labels(regions), described, said)
        named = _some(random, self._nameable, _NAMED, self._weights)
        labels = cache.labels[named]
        wholes = _some(random, self._captioned, _CAPTIONS)
        colors = self._clear_colors(named)
        return RegionBatch(
            regions=regions,
            named=named,
            wholes=cache.offsets[wholes],
            photos=batch_photos,
            phrases=texts,
            own=owners,
            targets=_block_diagonal(targets),
            unclear=may_fit(texts, owners, shown),
            labels=labels,
            other_class=np.array(
                [[bool(c) and COCO_NAMES[label] not in c for label in labels.tolist()]
                 for c in (facts_of(text).classes & _NAMES for text in texts)], bool,
            ),
            captions=[self._caption(cache.names[photo]) for photo in wholes],
            changed=self._changed(texts, owners, said),
            colors=colors,
            color_phrases=[
                phrase for crop, _ in colors for phrase in self._color_phrases(int(labels[crop]))
            ],
        )  # fmt: skip

    def _nameable_crops(self, allowed: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return sure, large detections, and how likely each is drawn: rare classes more often."""
        cache = self._cache
        sides = (cache.boxes[:, 2:] - cache.boxes[:, :2]).min(1)
        sure = (cache.kinds == DETECTED) & (cache.scores >= _SURE) & (sides > _SMALLEST_NAMED)
        rows = np.flatnonzero(sure & np.isin(cache.photos, allowed))
        counts = np.bincount(cache.labels[rows], minlength=len(COCO_NAMES))
        weights = 1 / np.sqrt(counts[cache.labels[rows]])
        return rows, weights / weights.sum()

    def _regions(self, photo: int) -> np.ndarray:
        """Return the whole photograph, human boxes, and detections and groups, as far as drawn."""
        rows = self._cache.rows(photo)
        kinds = self._cache.kinds[rows]
        human = _some(self._random, rows[kinds == HUMAN], _HUMAN)
        found = _some(self._random, rows[(kinds != HUMAN) & (kinds != WHOLE)], _FOUND)
        return np.concatenate([rows[:1], human, found]).astype(np.int64)

    def _distinct_phrases(self, photo: int) -> list[BoxedPhrase]:
        phrases = self._phrases[self._cache.names[photo]]
        order = self._random.permutation(len(phrases))
        return list({phrases[at].text: phrases[at] for at in order.tolist()}.values())[:_PHRASES]

    def _said_of(self, photo: int, rows: np.ndarray) -> list[list[str]]:
        """Return for each region what people said of it."""
        phrases = self._phrases[self._cache.names[photo]]
        fits = np.array(
            [
                pairwise_iou([phrase.box, *phrase.boxes], self._cache.boxes[rows]).max(0)
                for phrase in phrases
            ]
        )
        return [
            list(dict.fromkeys(phrases[at].text for at in np.flatnonzero(column > _DESCRIBED)))
            for column in fits.T
        ]

    def _sure_labels(self, rows: np.ndarray) -> list[str]:
        cache = self._cache
        sure = (cache.kinds[rows] == DETECTED) & (cache.scores[rows] >= _SURE)
        sure &= cache.labels[rows] != NO_LABEL
        labels = cache.labels[rows].tolist()
        return [
            COCO_NAMES[label] if is_sure else ""
            for label, is_sure in zip(labels, sure, strict=True)
        ]

    def _words(self, photo: int) -> frozenset[str]:
        """Return all words that people said of a photograph."""
        if photo not in self._said:
            name = self._cache.names[photo]
            texts = [*self._captions[name], *(p.text for p in self._phrases.get(name, ()))]
            self._said[photo] = frozenset().union(*map(content_words, texts))
        return self._said[photo]

    def _caption(self, name: str) -> str:
        captions = self._captions[name]
        return captions[self._random.integers(len(captions))]

    def _changed(
        self, phrases: Sequence[str], own: np.ndarray, said: Sequence[frozenset[str]]
    ) -> list[tuple[int, str]]:
        """Return phrases with one change, unless the photograph may show the new thing as well."""
        changed = []
        for number in self._random.permutation(len(phrases)).tolist():
            for change in changed_phrases(phrases[number], self._changes):
                new = content_words(change.new)
                if change.kind in _OF_THE_TARGET and not new & said[own[number]]:
                    changed.append((number, change.phrase))
                    break
        return changed[:_CHANGED]

    def _clear_colors(self, rows: np.ndarray) -> list[tuple[int, int]]:
        shares = self._cache.colors[rows].astype(np.float32) / 255
        clear = np.flatnonzero(shares.max(1) >= _CLEAR_COLOR)[:_COLORED]
        return [(int(crop), int(shares[crop].argmax())) for crop in clear]

    def _color_phrases(self, label: int) -> list[str]:
        """Return a phrase for a class with each of the colors; a person is dressed in one."""
        if COCO_NAMES[label] == "person":
            form = _OF_PERSONS[self._random.integers(len(_OF_PERSONS))]
            return [form.format(color) for color in COLORS]
        return [f"{color} {COCO_NAMES[label]}" for color in COLORS]


def _target_iou(phrase: BoxedPhrase, boxes: np.ndarray) -> np.ndarray:
    """Return how well each box is what a phrase means: IoU above `_NO_TARGET`, float32 (n,)."""
    around = pairwise_iou([phrase.box], boxes)[0]
    single = pairwise_iou(phrase.boxes, boxes).max(0) * _ONE_OF_SEVERAL
    fit: np.ndarray = np.clip(np.maximum(around, single) - _NO_TARGET, 0, None).astype(np.float32)
    return fit


def _block_diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    whole = np.zeros(np.sum([block.shape for block in blocks], axis=0), np.float32)
    top = left = 0
    for block in blocks:
        whole[top : top + block.shape[0], left : left + block.shape[1]] = block
        top, left = top + block.shape[0], left + block.shape[1]
    return whole


def _some(
    random: np.random.Generator,
    choices: Sequence[int] | np.ndarray,
    count: int,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Draw up to `count` different ones."""
    size = min(count, len(choices))
    return random.choice(np.asarray(choices, np.int64), size, replace=False, p=weights)
