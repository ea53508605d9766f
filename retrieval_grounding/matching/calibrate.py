"""Calibrating a matcher: scores of best regions for phrases that do and do not fit the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ..core.regions import pairwise_iou
from ..core.types import RowKey
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from .bundled import bundled_matcher
from .calibration import Calibration, fit_calibration
from .checks import score
from .dataset import Examples
from .matcher import CosineMatcher, Matcher
from .statements import make_examples, pseudo_statements

__all__ = [
    "UNDETECTED",
    "best_region_scores",
    "calibrate",
    "calibrate_cosine",
    "calibrate_index",
    "forget_cosine_calibration",
    "read_cosine_calibration",
]


_SETTING = "cosine_calibration"
_IMAGES_SETTING = "cosine_calibration_images"
_MAX_GROWTH = 2
_MIN_IMAGES = 10
_COSINE_IMAGES = 300
_STATEMENTS_STEP = 4  # cosine has two parameters to fit, for which every fourth phrase suffices
_MAX_EXAMPLES = 2000
_CORRECT_IOU = 0.5

UNDETECTED = 0.5
"""Approximate share of the things named in free text that YOLO misses; see docs/evaluation.md."""


def calibrate_index(catalog: Catalog, encoder: Encoder) -> None:
    """Give an index without a trained matcher probabilities by cosine.

    The calibration is fitted to pseudo-queries and kept in the catalog, and fitted again when the
    index has twice as many images. Nothing happens if the bundled matcher fits the encoder, or if
    too little is known about the images. The caller holds the writer's lock.
    """
    if bundled_matcher(encoder.fingerprint, "cpu"):
        return
    keys = dict.fromkeys((image.shard, image.row) for image in catalog.images())
    fitted_to = catalog.parse_setting(_IMAGES_SETTING, lambda value: int(value or 0))
    if catalog.setting(_SETTING) and len(keys) < _MAX_GROWTH * max(fitted_to, 1):
        return
    calibration = calibrate_cosine(RegionStore(catalog), encoder, keys)
    if calibration is not None:
        catalog.set_setting(_SETTING, calibration.as_dict())
        catalog.set_setting(_IMAGES_SETTING, len(keys))


def read_cosine_calibration(catalog: Catalog) -> Calibration | None:
    """Return the calibration of cosine that an index holds, or None.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    return catalog.parse_setting(
        _SETTING, lambda value: None if value is None else Calibration.from_dict(value)
    )


def forget_cosine_calibration(catalog: Catalog) -> None:
    """Remove a damaged calibration of cosine; the next build fits a new one."""
    catalog.set_setting(_SETTING, None)
    catalog.set_setting(_IMAGES_SETTING, None)


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
        All images; a few hundred are drawn.
    seed : int
        Seed of the draws.

    Returns
    -------
    Calibration or None
        None if too few images have pseudo-queries, or none can be fitted.
    """
    candidates = list(keys)
    drawn = np.random.default_rng(seed).permutation(len(candidates))[:_COSINE_IMAGES]
    statements = pseudo_statements(store, [candidates[number] for number in drawn], seed)
    statements = statements[::_STATEMENTS_STEP]
    described = list(dict.fromkeys(statement.key for statement in statements))
    if len(described) < _MIN_IMAGES:
        return None
    examples = make_examples(statements, described, encoder)
    return calibrate(CosineMatcher(), store, described, examples, seed, undetected=UNDETECTED)


def calibrate(
    matcher: Matcher,
    store: RegionStore,
    keys: Sequence[RowKey],
    examples: Examples,
    seed: int,
    *,
    undetected: float,
) -> Calibration | None:
    """Fit probabilities to phrases paired with their own image and with a different one.

    Pseudo-queries only describe what was detected, whereas people also ask for what the detector
    missed. So the target is removed from the regions for a share `undetected` of the phrases. For
    expressions written by people that share is 0, since they include real misses.

    Parameters
    ----------
    matcher : Matcher
        Its scores are calibrated.
    store : RegionStore
        Reads the regions.
    keys : sequence of (shard, row)
        ``keys[i]`` is the address of image i.
    examples : Examples
        Phrases; those without a box are not used.
    seed : int
        Seed of the draws.
    undetected : float
        Share of the phrases, 0 to 1.

    Returns
    -------
    Calibration or None
        None if there are fewer than two images, or none can be fitted.
    """
    located = np.flatnonzero(examples.located)
    random = np.random.default_rng(seed)
    chosen = examples.take(random.permutation(located)[:_MAX_EXAMPLES])
    images = np.unique(chosen.image)
    if len(images) < 2:
        return None
    place = np.searchsorted(images, chosen.image)
    steps = random.integers(1, len(images), len(chosen))
    other_images = images[(place + steps) % len(images)]
    removed = random.random(len(chosen)) < undetected
    own_scores, iou = best_region_scores(matcher, store, keys, chosen, chosen.image, removed)
    nothing_removed = np.zeros(len(chosen), bool)
    other_scores, _ = best_region_scores(
        matcher, store, keys, chosen, other_images, nothing_removed
    )
    scores = np.concatenate([own_scores, other_scores])
    correct = np.concatenate([iou >= _CORRECT_IOU, np.zeros(len(other_scores), bool)])
    return fit_calibration(scores, correct)


def best_region_scores(
    matcher: Matcher,
    store: RegionStore,
    keys: Sequence[RowKey],
    examples: Examples,
    images: npt.NDArray[np.int64],
    undetected: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return score and IoU of the best region for each phrase in the image paired with it.

    Parameters
    ----------
    matcher : Matcher
        Scores the regions.
    store : RegionStore
        Reads the regions.
    keys : sequence of (shard, row)
        ``keys[i]`` is the address of image i.
    examples : Examples
        e phrases with boxes.
    images : int64 array of shape (e,)
        Image paired with each phrase.
    undetected : bool array of shape (e,)
        Whether to remove the regions that match the phrase's box, as if the detector had missed
        the target.

    Returns
    -------
    scores, iou : float32 arrays of shape (e,)
        The IoU is 0 if the image is not the phrase's own.
    """
    scores = np.empty(len(examples), np.float32)
    best_iou = np.zeros(len(examples), np.float32)
    for row, image in enumerate(images.tolist()):
        table = store.gather([keys[image]])
        iou = np.zeros(len(table), np.float32)
        if examples.image[row] == image:
            target = examples.boxes[row] * np.tile(table.boxes[0, 2:], 2)
            iou = pairwise_iou(target[None], table.boxes)[0]
        if undetected[row]:
            kept = iou < _CORRECT_IOU
            kept[0] = True  # the whole image
            table, iou = table.of_one_image(kept), iou[kept]
        phrase = examples.phrases[examples.phrase[[row]]]
        region_scores = score(matcher, phrase, table)[0]
        best = int(region_scores.argmax())
        scores[row], best_iou[row] = region_scores[best], iou[best]
    return scores, best_iou
