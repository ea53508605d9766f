"""What an encoder finds by cosine, without a matcher, on photographs that it was not trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval_grounding.core.regions import pairwise_iou

from .dual_encoder import DualEncoder
from .entities import Box, BoxedPhrase
from .regions import DETECTED, WHOLE, RegionCache
from .texts import COCO_NAMES, Caption

_CORRECT = 0.5
_GALLERY_PHRASES = 400
_SURE = 0.5
_RANK = 10


@dataclass(frozen=True)
class Figures:
    """Measures by cosine, each a share.

    Parameters
    ----------
    mean_iou : float
        Of the best region of the phrase's own photograph.
    image_recall, box_recall : float
        Share of phrases whose photograph is among the first ten of all, and whose best region
        there, besides, overlaps the box by half.
    names : float
        Share of sure detections that are named among the 80 classes as the teacher names them.
    captions : float
        Share of captions whose photograph is among the first ten of the held-out ones.
    """

    mean_iou: float
    image_recall: float
    box_recall: float
    names: float
    captions: float


class Development:
    """Photographs to develop on, with their phrases and captions.

    Parameters
    ----------
    cache : RegionCache
        Has the regions of all of them.
    phrases : mapping of str to list of BoxedPhrase
        Phrases with boxes, by photograph; joined ones are not measured.
    captions : sequence of Caption
        Captions of the held-out photographs, among others.
    held_out : collection of str
        Photographs for names and captions.
    """

    def __init__(
        self,
        cache: RegionCache,
        phrases: Mapping[str, Sequence[BoxedPhrase]],
        captions: Sequence[Caption],
        held_out: Collection[str],
    ) -> None:
        numbers = cache.numbers
        self._cache = cache
        self._said: list[tuple[int, str, Box]] = [
            (numbers[name], phrase.text, phrase.box)
            for name in sorted(phrases)
            if name in numbers
            for phrase in phrases[name]
            if not phrase.joined
        ]
        photos = sorted(numbers[name] for name in held_out if name in numbers)
        of_held_out = np.isin(cache.photos, photos)
        self._wholes = np.flatnonzero(of_held_out & (cache.kinds == WHOLE))
        sure = (cache.kinds == DETECTED) & (cache.scores >= _SURE)
        self._named = np.flatnonzero(of_held_out & sure)
        place = {photo: at for at, photo in enumerate(photos)}
        self._captions = [
            (place[numbers[caption.photo]], caption.text)
            for caption in captions
            if numbers.get(caption.photo) in place
        ]

    def measure(self, encoder: DualEncoder) -> Figures:
        """Return the figures of an encoder."""
        photos = sorted({photo for photo, _, _ in self._said})
        regions = {photo: self._cache.indexed_rows(photo) for photo in photos}
        shown = {
            photo: encoder.embed_maps(self._cache.maps[rows]) for photo, rows in regions.items()
        }
        said = encoder.embed_phrases([text for _, text, _ in self._said])
        overlaps, best = [], []
        for (photo, _, box), phrase in zip(self._said, said, strict=True):
            region = int((shown[photo] @ phrase).argmax())
            row = regions[photo][region]
            overlaps.append(float(pairwise_iou([box], self._cache.boxes[row][None])[0, 0]))
            best.append(float(shown[photo][region] @ phrase))
        found = np.zeros(len(said), bool)
        gallery = np.random.default_rng(0).permutation(len(said))[:_GALLERY_PHRASES]
        for at in gallery:
            rivals = [float((own @ said[at]).max()) for own in shown.values()]
            found[at] = sum(rival > best[at] for rival in rivals) < _RANK
        correct = np.array(overlaps) >= _CORRECT
        return Figures(
            mean_iou=float(np.mean(overlaps)),
            image_recall=float(found[gallery].mean()),
            box_recall=float((found & correct)[gallery].mean()),
            names=self._name_accuracy(encoder),
            captions=self._caption_recall(encoder),
        )

    def _name_accuracy(self, encoder: DualEncoder) -> float:
        names = encoder.embed_phrases(COCO_NAMES)
        shown = encoder.embed_maps(self._cache.maps[self._named])
        right = (shown @ names.T).argmax(1) == self._cache.labels[self._named]
        return float(right.mean())

    def _caption_recall(self, encoder: DualEncoder) -> float:
        shown = encoder.embed_maps(self._cache.maps[self._wholes])
        scores = encoder.embed_phrases([text for _, text in self._captions]) @ shown.T
        own = scores[np.arange(len(scores)), [place for place, _ in self._captions]]
        return float(((scores > own[:, None]).sum(1) < _RANK).mean())
