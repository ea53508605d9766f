"""Asking matchers for the box of every expression, from the regions of an index alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases
from ..core.progress import progress_bar
from ..core.region_table import RegionTable
from ..core.regions import pairwise_iou
from ..core.types import RowKey
from ..matching.matcher import Matcher
from ..storage.region_store import RegionStore

__all__ = ["Answers", "Facts", "Questions", "ask_gallery", "ask_matchers"]


FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SAME_OBJECT = 0.5
"""IoU from which on two boxes are taken for one object."""

_IMAGES_AT_ONCE = 256
_PHRASES_AT_ONCE = 512


@dataclass(frozen=True)
class Questions:
    """Expressions about images of an index.

    Parameters
    ----------
    phrases : Phrases
        The n phrases.
    truth : float array of shape (n, 4)
        The boxes that they mean, in pixels of the index's images.
    images : int array of shape (n,)
        Number of each phrase's image in `keys`.
    keys : sequence of RowKey
        Where the images lie in the shards.
    """

    phrases: Phrases
    truth: npt.NDArray[np.float64]
    images: IntArray
    keys: Sequence[RowKey]

    def __len__(self) -> int:
        return len(self.images)

    def by_image(self) -> list[IntArray]:
        """Return the questions of each image."""
        return _grouped(self.images, len(self.keys))


@dataclass(frozen=True)
class Facts:
    """What the regions of an image allow, whatever a matcher says; arrays of length n.

    Parameters
    ----------
    oracle, largest : float32 arrays
        IoU of the best region, and of the largest that is not the whole image.
    oracle_row : int array
        The best region, counted in its image.
    label : sequence of str
        Its class name.
    distractors : bool array
        Whether its image has another object of that class.
    """

    oracle: FloatArray
    largest: FloatArray
    oracle_row: IntArray
    label: Sequence[str]
    distractors: BoolArray


@dataclass(frozen=True)
class Answers:
    """What one matcher answers; arrays of length n.

    Parameters
    ----------
    row : int array
        The region of the highest score, counted in its image.
    box : float32 array of shape (n, 4)
        Its box.
    iou : float32 array
        Its overlap with the truth.
    present, absent : float32 arrays
        The highest score in the phrase's own image, and in another that was drawn by chance; NaN
        if the index has no other.
    """

    row: IntArray
    box: FloatArray
    iou: FloatArray
    present: FloatArray
    absent: FloatArray


def ask_matchers(
    questions: Questions, matchers: Mapping[str, Matcher], store: RegionStore, seed: int = 0
) -> tuple[Facts, dict[str, Answers]]:
    """Let every matcher answer every question, image by image.

    Parameters
    ----------
    questions : Questions
        What is asked.
    matchers : mapping of str to Matcher
        Who answers.
    store : RegionStore
        Has the regions; no image file is touched.
    seed : int
        Of the draw of other images.
    """
    n, total = len(questions), len(questions.keys)
    facts = Facts(
        oracle=np.zeros(n, np.float32),
        largest=np.zeros(n, np.float32),
        oracle_row=np.zeros(n, np.int64),
        label=[""] * n,
        distractors=np.zeros(n, bool),
    )
    answers = {
        name: Answers(
            row=np.zeros(n, np.int64),
            box=np.zeros((n, 4), np.float32),
            iou=np.zeros(n, np.float32),
            present=np.zeros(n, np.float32),
            absent=np.full(n, np.nan, np.float32),
        )
        for name in matchers
    }
    visitors: list[IntArray] = [np.zeros(0, np.int64)] * total
    if total > 1:
        steps = np.random.default_rng(seed).integers(1, total, n)
        visitors = _grouped((questions.images + steps) % total, total)
    with progress_bar("asking", total, "images") as advance:
        for key, own, visiting in zip(questions.keys, questions.by_image(), visitors, strict=True):
            regions = store.gather([key])
            overlaps = pairwise_iou(questions.truth[own], regions.boxes)
            _note_facts(facts, own, overlaps, regions)
            phrases = questions.phrases[np.concatenate([own, visiting])]
            for name, matcher in matchers.items():
                scores = matcher.score(phrases, regions)
                rows = scores[: len(own)].argmax(axis=1)
                given = answers[name]
                given.row[own] = rows
                given.box[own] = regions.boxes[rows]
                given.iou[own] = overlaps[np.arange(len(own)), rows]
                given.present[own] = scores[: len(own)].max(axis=1)
                given.absent[visiting] = scores[len(own) :].max(axis=1)
            advance(1)
    return facts, answers


def ask_gallery(
    questions: Questions,
    asked: IntArray,
    own_scores: Mapping[str, FloatArray],
    matchers: Mapping[str, Matcher],
    store: RegionStore,
) -> dict[str, IntArray]:
    """Return the rank of each phrase's own image among all images, 1 being the best.

    An image counts by its best region. An image of equal score ranks before the right one, so a
    matcher gains nothing by scoring everything alike.

    Parameters
    ----------
    questions : Questions
        Whose images are the gallery.
    asked : int array of shape (m,)
        The questions that are asked.
    own_scores : mapping of str to float array of shape (n,)
        The best score in a phrase's own image, for each matcher.
    matchers, store
        As for :func:`ask_matchers`.
    """
    ranks = {name: np.ones(len(asked), np.int64) for name in matchers}
    keys = questions.keys
    with progress_bar("searching", len(keys) if len(asked) else 0, "images") as advance:
        for first in range(0, len(keys) if len(asked) else 0, _IMAGES_AT_ONCE):
            regions = store.gather(keys[first : first + _IMAGES_AT_ONCE])
            numbers = first + np.arange(len(regions.offsets) - 1)
            for start in range(0, len(asked), _PHRASES_AT_ONCE):
                part = slice(start, start + _PHRASES_AT_ONCE)
                rows = asked[part]
                others = questions.images[rows][:, None] != numbers
                for name, matcher in matchers.items():
                    scores = matcher.score(questions.phrases[rows], regions)
                    best = np.maximum.reduceat(scores, regions.offsets[:-1], axis=1)
                    ahead = (best >= own_scores[name][rows][:, None]) & others
                    ranks[name][part] += ahead.sum(axis=1)
            advance(len(numbers))
    return ranks


def _note_facts(facts: Facts, own: IntArray, overlaps: FloatArray, regions: RegionTable) -> None:
    sides = regions.boxes[:, 2:] - regions.boxes[:, :2]
    areas = sides.prod(axis=1)
    # Row 0 is the whole image; it is the largest only where there is nothing else.
    largest = 1 + int(areas[1:].argmax()) if len(areas) > 1 else 0
    best = overlaps.argmax(axis=1)
    facts.oracle[own] = overlaps.max(axis=1)
    facts.oracle_row[own] = best
    facts.largest[own] = overlaps[:, largest]
    labels = regions.labels[best]
    apart = pairwise_iou(regions.boxes[best], regions.boxes) < SAME_OBJECT
    facts.distractors[own] = (apart & (regions.labels == labels[:, None])).any(axis=1)
    for question, label in zip(own.tolist(), labels.tolist(), strict=True):
        facts.label[question] = regions.label_names[label]  # type: ignore[index]


def _grouped(numbers: IntArray, groups: int) -> list[IntArray]:
    """Return the positions at which each group's number stands."""
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers, minlength=groups))
    return np.split(order, ends[:-1])
