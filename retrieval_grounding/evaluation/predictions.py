"""Predictions: the region that each matcher chooses for each query, from the index alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.groups import is_group
from ..core.progress import progress_bar
from ..core.region_table import RegionTable
from ..core.regions import pairwise_iou
from ..matching import checks
from ..matching.matcher import Matcher
from ..storage.region_store import RegionStore
from .queries import Queries, group_by_number

__all__ = ["SAME_OBJECT", "Predictions", "RegionFacts", "predict"]


FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SAME_OBJECT = 0.5
"""Two boxes with at least this IoU count as the same object."""


@dataclass(frozen=True)
class RegionFacts:
    """Facts about the regions of each query's image, the same for all matchers; length n.

    Parameters
    ----------
    oracle, largest : float32 arrays
        IoU of the best region, and of the largest one that is neither the whole image nor a group.
    oracle_row : int array
        The best region, counted within its image.
    label : list of str
        Its class name.
    distractors : bool array
        Whether its image has a different object of that class.
    """

    oracle: FloatArray
    largest: FloatArray
    oracle_row: IntArray
    label: list[str]
    distractors: BoolArray

    @classmethod
    def empty(cls, n: int) -> RegionFacts:
        """Return facts to be filled in, for n queries."""
        return cls(
            oracle=np.zeros(n, np.float32),
            largest=np.zeros(n, np.float32),
            oracle_row=np.zeros(n, np.int64),
            label=[""] * n,
            distractors=np.zeros(n, bool),
        )

    @property
    def covered(self) -> BoolArray:
        """Whether a region covers the object: the best region has an IoU of at least 0.5."""
        return self.oracle >= SAME_OBJECT


@dataclass(frozen=True)
class Predictions:
    """The predictions of one matcher; arrays of length n.

    Parameters
    ----------
    row : int array
        The region with the highest score, counted within its image.
    box : float32 array of shape (n, 4)
        Its box.
    iou : float32 array
        Its overlap with the truth.
    present, absent : float32 arrays
        The highest score in the phrase's own image, and in a different image, drawn at random; NaN
        if the index has no other image.
    """

    row: IntArray
    box: FloatArray
    iou: FloatArray
    present: FloatArray
    absent: FloatArray

    @classmethod
    def empty(cls, n: int) -> Predictions:
        """Return predictions to be filled in, for n queries."""
        return cls(
            row=np.zeros(n, np.int64),
            box=np.zeros((n, 4), np.float32),
            iou=np.zeros(n, np.float32),
            present=np.zeros(n, np.float32),
            absent=np.full(n, np.nan, np.float32),
        )

    @property
    def correct(self) -> BoolArray:
        """Whether the box overlaps the truth by at least 0.5."""
        return self.iou >= SAME_OBJECT


def predict(
    queries: Queries, matchers: Mapping[str, Matcher], store: RegionStore, seed: int = 0
) -> tuple[RegionFacts, dict[str, Predictions]]:
    """Let every matcher choose a region for every query, image by image.

    Parameters
    ----------
    queries : Queries
        What to find.
    matchers : mapping of str to Matcher
        By name.
    store : RegionStore
        Reads the regions; no image file is read.
    seed : int
        Seed for the draw of images in which phrases are absent.
    """
    n, images = len(queries), len(queries.keys)
    facts = RegionFacts.empty(n)
    predictions = {name: Predictions.empty(n) for name in matchers}
    absent_by_image = _draw_absent(queries, seed)
    with progress_bar("Matching", images, "images") as advance:
        for key, present, absent in zip(
            queries.keys, queries.by_image(), absent_by_image, strict=True
        ):
            regions = store.gather([key])
            overlaps = pairwise_iou(queries.truth[present], regions.boxes)
            _fill_facts(facts, present, overlaps, regions)
            phrases = queries.phrases[np.concatenate([present, absent])]
            for name, matcher in matchers.items():
                scores = checks.score(matcher, phrases, regions)
                rows = scores[: len(present)].argmax(axis=1)
                found = predictions[name]
                found.row[present] = rows
                found.box[present] = regions.boxes[rows]
                found.iou[present] = overlaps[np.arange(len(present)), rows]
                found.present[present] = scores[: len(present)].max(axis=1)
                found.absent[absent] = scores[len(present) :].max(axis=1)
            advance(1)
    return facts, predictions


def _draw_absent(queries: Queries, seed: int) -> list[IntArray]:
    """Return the queries drawn for each image from those about other images."""
    images = len(queries.keys)
    if images < 2:
        return [np.zeros(0, np.int64)] * images
    steps = np.random.default_rng(seed).integers(1, images, len(queries))
    return group_by_number((queries.images + steps) % images, images)


def _fill_facts(
    facts: RegionFacts, queries: IntArray, overlaps: FloatArray, regions: RegionTable
) -> None:
    sides = regions.boxes[:, 2:] - regions.boxes[:, :2]
    areas = sides.prod(axis=1)
    # Row 0 is the whole image; it counts only where there is no other region.
    grouped = np.array([is_group(name) for name in regions.label_names])[regions.labels]
    single = np.flatnonzero(~grouped)[1:]
    largest = int(single[areas[single].argmax()]) if len(single) else 0
    best = overlaps.argmax(axis=1)
    facts.oracle[queries] = overlaps.max(axis=1)
    facts.oracle_row[queries] = best
    facts.largest[queries] = overlaps[:, largest]
    labels = regions.labels[best]
    apart = pairwise_iou(regions.boxes[best], regions.boxes) < SAME_OBJECT
    facts.distractors[queries] = (apart & (regions.labels == labels[:, None])).any(axis=1)
    for query, row in zip(queries.tolist(), best.tolist(), strict=True):
        facts.label[query] = regions.label(row)
