"""Calibrating: phrases of their own images and of others → best regions → probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ..core.regions import pairwise_iou
from ..core.types import RowKey
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from .calibration import Calibration, fit_calibration
from .dataset import Examples
from .load import bundled_matcher
from .matcher import CosineMatcher, Matcher
from .statements import make_examples, pseudo_statements

__all__ = ["UNDETECTED", "answer_scores", "calibrate", "calibrate_cosine", "calibrate_index"]


_LEAST_IMAGES = 10
_COSINE_IMAGES = 300
_MOST_CALIBRATED = 2000
_SAME_OBJECT = 0.5

UNDETECTED = 0.5
"""Share of what people name in free text that YOLO does not find, about; see docs/evaluation.md."""


def calibrate_index(catalog: Catalog, encoder: Encoder) -> None:
    """Let an index whose encoder has no matcher yet give probabilities by cosine.

    Fitted once, to pseudo-queries, and kept in the catalog; nothing happens if it is there, if the
    bundled matcher serves this encoder, or if too little is known of the images. The caller holds
    the writer's lock.
    """
    if catalog.setting("cosine_calibration") or bundled_matcher(encoder.fingerprint, "cpu"):
        return
    keys = dict.fromkeys((image.shard, image.row) for image in catalog.images())
    calibration = calibrate_cosine(RegionStore(catalog), encoder, keys)
    if calibration is not None:
        catalog.set_setting("cosine_calibration", calibration.as_dict())


def calibrate_cosine(
    store: RegionStore, encoder: Encoder, keys: Iterable[RowKey], seed: int = 0
) -> Calibration | None:
    """Fit probabilities of plain cosines to pseudo-queries of some images.

    Parameters
    ----------
    store : RegionStore
        The index's regions.
    encoder : Encoder
        Embeds the phrases.
    keys : iterable of (shard, row)
        Of all images; a few hundred are drawn.
    seed : int
        Of the draws.

    Returns
    -------
    Calibration or None
        None if too little is known of these images.
    """
    wanted = list(keys)
    drawn = np.random.default_rng(seed).permutation(len(wanted))[:_COSINE_IMAGES]
    statements = pseudo_statements(store, [wanted[number] for number in drawn], seed)[::4]
    told = list(dict.fromkeys(statement.key for statement in statements))
    if len(told) < _LEAST_IMAGES:
        return None
    examples = make_examples(statements, told, encoder)
    return calibrate(CosineMatcher(), store, told, examples, seed, undetected=UNDETECTED)


def answer_scores(
    matcher: Matcher,
    store: RegionStore,
    keys: Sequence[RowKey],
    examples: Examples,
    images: npt.NDArray[np.int64],
    undetected: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return score and IoU of each phrase's best region in the image given for it.

    Parameters
    ----------
    matcher : Matcher
        Scores.
    store : RegionStore
        Reads the regions.
    keys : sequence of (shard, row)
        Image i lies at ``keys[i]``.
    examples : Examples
        e phrases and truths.
    images : int64 array of shape (e,)
        Where each phrase is looked for. The IoU is that with the truth if this is the phrase's
        own image, else 0.
    undetected : bool array of shape (e,)
        Behave as if the detector had missed what the phrase means.

    Returns
    -------
    float32 arrays of shape (e,)
    """
    scores = np.empty(len(examples), np.float32)
    overlaps = np.zeros(len(examples), np.float32)
    for row, image in enumerate(images.tolist()):
        table = store.gather([keys[image]])
        truth = examples.boxes[row] * np.tile(table.boxes[0, 2:], 2)
        iou = pairwise_iou(truth[None], table.boxes)[0]
        if examples.image[row] != image:
            iou = np.zeros_like(iou)
        if undetected[row]:
            kept = (iou < _SAME_OBJECT) | (np.arange(len(iou)) == 0)
            table, iou = table.of_one_image(kept), iou[kept]
        found = matcher.score(examples.phrases[examples.phrase[[row]]], table)[0]
        best = int(found.argmax())
        scores[row], overlaps[row] = found[best], iou[best]
    return scores, overlaps


def calibrate(
    matcher: Matcher,
    store: RegionStore,
    keys: Sequence[RowKey],
    examples: Examples,
    seed: int,
    *,
    undetected: float,
) -> Calibration | None:
    """Fit probabilities to phrases asked of their own image and of another, half and half.

    Every pseudo-query means something that was detected, whereas people also ask for what the
    detector has missed. So of a share `undetected` of the phrases the answer is taken away; what
    people said of images carries its own misses.
    """
    located = np.flatnonzero(np.isfinite(examples.boxes).all(1))
    random = np.random.default_rng(seed)
    chosen = examples.take(random.permutation(located)[:_MOST_CALIBRATED])
    images = np.unique(chosen.image)
    if len(images) < 2:
        return None
    place = np.searchsorted(images, chosen.image)
    others = images[(place + random.integers(1, len(images), len(chosen))) % len(images)]
    missed = random.random(len(chosen)) < undetected
    own, overlaps = answer_scores(matcher, store, keys, chosen, chosen.image, missed)
    foreign, _ = answer_scores(matcher, store, keys, chosen, others, np.zeros(len(chosen), bool))
    right = np.concatenate([overlaps >= _SAME_OBJECT, np.zeros(len(foreign), bool)])
    return fit_calibration(np.concatenate([own, foreign]), right)
