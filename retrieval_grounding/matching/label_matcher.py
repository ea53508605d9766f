"""The matcher ``cosine+label``: cosine, and how well a phrase fits the label of a region."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from ..core.types import RowKey
from ..storage.region_store import RegionStore
from .calibration import Calibration
from .matcher import CosineMatcher

__all__ = ["LABEL_WEIGHT", "LabelMatcher", "label_matcher", "label_scale"]


LABEL_WEIGHT = 0.5
"""Weight of the label beside cosine, both measured by their spread; see docs/training.md."""

_IMAGES = 256  # measure the spreads; more change the third digit


@dataclass(frozen=True)
class LabelMatcher:
    """Scores a region by ``cos(region, phrase) + scale · cos(label, phrase)``.

    A detector's label is a second opinion on what a region shows, and needs no training. The whole
    image has no label; it gets the mean of what the labels in its image get.

    Parameters
    ----------
    scale : float
        Weight of the label's cosine, from :func:`label_scale`.
    calibration : Calibration or None
        Turns scores into probabilities.

    Examples
    --------
    Two regions look alike, and one of them is called a dog:

    >>> phrases = Phrases(["a dog"], np.array([[1.0, 0.0]], np.float32))
    >>> regions = RegionTable(
    ...     embeddings=np.array([[0, 1], [0.6, 0.8], [0.6, 0.8]], np.float16),
    ...     boxes=np.array([[0, 0, 80, 60], [10, 20, 30, 40], [40, 20, 60, 40]], np.float32),
    ...     scores=np.array([1, 0.9, 0.9], np.float32),
    ...     labels=np.array([0, 1, 2]),
    ...     colors=np.zeros((3, 11), np.uint8),
    ...     offsets=np.array([0, 3]),
    ...     label_names=["whole image", "dog", "cat"],
    ...     label_embeddings=np.array([[0, 0], [1, 0], [0, 1]], np.float32),
    ... )
    >>> LabelMatcher(scale=0.5).score(phrases, regions).round(2).tolist()
    [[0.25, 1.100000023841858, 0.6000000238418579]]
    """

    scale: float
    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        """Name in tables of results: ``"cosine+label"``."""
        return "cosine+label"

    def score(self, phrases: Phrases, regions: RegionTable) -> npt.NDArray[np.float32]:
        """Return the scores (p, n) of p phrases and n regions; see :meth:`.Matcher.score`."""
        fit = phrases.embeddings @ regions.label_embeddings.T.astype(np.float32)
        fit = fit[:, regions.labels]
        _fill_whole_images(fit, regions)
        fit *= np.float32(self.scale)
        return CosineMatcher().score(phrases, regions) + fit

    def score_pairs(
        self, phrases: Phrases, regions: RegionTable, phrase_rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return scores (n,), each image for its own phrase; see :meth:`.Matcher.score_pairs`."""
        fit = phrases.embeddings @ regions.label_embeddings.T.astype(np.float32)
        fit = fit[np.repeat(phrase_rows, np.diff(regions.offsets)), regions.labels][None]
        _fill_whole_images(fit, regions)
        scores: npt.NDArray[np.float32] = CosineMatcher().score_pairs(phrases, regions, phrase_rows)
        scores += np.float32(self.scale) * fit[0]
        return scores

    def probabilities(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Return calibrated probabilities of scores, or None without a calibration."""
        return None if self.calibration is None else self.calibration(scores[..., None]).box[..., 0]


def label_matcher(store: RegionStore, keys: Iterable[RowKey]) -> LabelMatcher:
    """Return the matcher ``cosine+label`` of an index with images at `keys`."""
    return LabelMatcher(LABEL_WEIGHT * label_scale(store, keys))


def label_scale(store: RegionStore, keys: Iterable[RowKey]) -> float:
    """Return how much further cosines of regions spread than those of labels.

    Encoders differ: in CLIP's space, a phrase is similar to every label, and not similar to any
    region. So both are measured in units of their spread over regions, with the labels in the place
    of phrases.

    Parameters
    ----------
    store : RegionStore
        The index's regions.
    keys : iterable of (shard, row)
        All images; up to 256 of them, evenly spread, are measured.

    Returns
    -------
    float
        0 where fewer than two labels are known.
    """
    every = list(keys)
    if not every:
        return 0.0
    table = store.gather(every[:: max(1, len(every) // _IMAGES)][:_IMAGES])
    labels = table.label_embeddings.astype(np.float32)
    used = np.zeros(len(labels), bool)
    used[table.labels] = True
    used &= np.abs(labels).sum(axis=1) > 0
    regions = used[table.labels]
    if used.sum() < 2:
        return 0.0
    phrases = labels[used]
    by_region = table.embeddings[regions].astype(np.float32) @ phrases.T
    by_label = labels[table.labels[regions]] @ phrases.T
    spread = float(np.sqrt(by_label.var(axis=0).mean()))
    return float(np.sqrt(by_region.var(axis=0).mean())) / spread if spread else 0.0


def _fill_whole_images(fit: npt.NDArray[np.float32], regions: RegionTable) -> None:
    """Give each whole image, the first of its regions, the mean value of its other regions."""
    starts, counts = regions.offsets[:-1], np.diff(regions.offsets)
    if len(starts):
        fit[:, starts] = 0
        fit[:, starts] = np.add.reduceat(fit, starts, axis=1) / np.maximum(counts - 1, 1)
