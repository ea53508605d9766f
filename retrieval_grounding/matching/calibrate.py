"""Calibrating a matcher: from phrases about images to probabilities of its scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ..core.types import RowKey
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from .bundled import fits_nano
from .calibration import Calibration
from .dataset import Examples
from .fit_calibration import fit_calibration
from .galleries import GalleryQueries, Regions, gallery_sizes, search_galleries
from .matcher import CosineMatcher, Matcher
from .relevance import relevance
from .statements import make_examples, pseudo_statements

__all__ = [
    "UNDETECTED",
    "calibrate",
    "calibrate_cosine",
    "calibrate_index",
    "calibrate_matcher",
    "descriptions_in",
    "forget_cosine_calibration",
    "gallery_queries",
    "read_cosine_calibration",
]


_SETTING = "cosine_calibration"
_IMAGES_SETTING = "cosine_calibration_images"
_MAX_GROWTH = 2
_MIN_IMAGES = 10
_DRAWN_IMAGES = 300
_STATEMENTS_STEP = 4  # there are few parameters to fit, for which every fourth phrase suffices
_MAX_PHRASES = 1500
_FAIRLY_SURE = 0.25

UNDETECTED = 0.5
"""Approximate share of the things named in free text that YOLO misses; see docs/evaluation.md."""


def calibrate_index(catalog: Catalog, encoder: Encoder) -> None:
    """Give an index without a trained matcher probabilities by cosine.

    The calibration is fitted to pseudo-queries and kept in the catalog, and fitted again when the
    index has twice as many images. Nothing happens if the encoder is nano's, which has a matcher,
    or if too little is known about the images. The caller holds the writer's lock.
    """
    if fits_nano(encoder.fingerprint):
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
    store: RegionStore, encoder: Encoder, keys: Iterable[RowKey]
) -> Calibration | None:
    """Fit probabilities of plain cosines; see :func:`calibrate_matcher`."""
    return calibrate_matcher(CosineMatcher(), store, encoder, keys)


def calibrate_matcher(
    matcher: Matcher,
    store: RegionStore,
    encoder: Encoder,
    keys: Iterable[RowKey],
    seed: int = 0,
) -> Calibration | None:
    """Fit probabilities of a matcher to pseudo-queries of some images.

    Parameters
    ----------
    matcher : Matcher
        Its scores are calibrated.
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
    drawn = np.random.default_rng(seed).permutation(len(candidates))[:_DRAWN_IMAGES]
    statements = pseudo_statements(store, [candidates[number] for number in drawn], seed)
    statements = statements[::_STATEMENTS_STEP]
    described = list(dict.fromkeys(statement.key for statement in statements))
    if len(described) < _MIN_IMAGES:
        return None
    examples = make_examples(statements, described, encoder)
    texts = descriptions_in(examples, len(described))
    return calibrate(matcher, store, described, examples, texts, seed, undetected=UNDETECTED)


def calibrate(
    matcher: Matcher,
    store: Regions,
    keys: Sequence[RowKey],
    examples: Examples,
    descriptions: Sequence[Sequence[str]],
    seed: int,
    *,
    undetected: float,
) -> Calibration | None:
    """Fit probabilities to what searches find in galleries, with and without the right image.

    Pseudo-queries only describe what was detected, whereas people also ask for what the detector
    missed. So the target is removed from the regions for a share `undetected` of the phrases. For
    expressions written by people that share is 0, since they include real misses.

    Parameters
    ----------
    matcher : Matcher
        Its scores are calibrated.
    store : Regions
        Reads the regions.
    keys : sequence of n (shard, row)
        ``keys[i]`` is the address of image i; all are in the largest gallery. Images that the
        matcher was not trained on give honest probabilities.
    examples : Examples
        Phrases to search for; some are drawn, each once.
    descriptions : sequence of n sequences of str
        What is known about each image, in words: all its phrases, and captions if there are any.
    seed : int
        Seed of the draws.
    undetected : float
        Share of the phrases, 0 to 1.

    Returns
    -------
    Calibration or None
        None if there are fewer than two images, or none can be fitted.
    """
    if len(keys) < 2 or not len(examples):
        return None
    queries = gallery_queries(store, keys, examples, descriptions, undetected, seed)
    hits = search_galleries(matcher, store, keys, queries, gallery_sizes(len(keys)), seed)
    return fit_calibration(hits)


def descriptions_in(examples: Examples, images: int) -> list[list[str]]:
    """Return the phrases of each image, for `images` images."""
    found: list[list[str]] = [[] for _ in range(images)]
    for phrase, image in zip(examples.phrase.tolist(), examples.image.tolist(), strict=True):
        found[image].append(examples.phrases.texts[phrase])
    return found


def gallery_queries(
    store: Regions,
    keys: Sequence[RowKey],
    examples: Examples,
    descriptions: Sequence[Sequence[str]],
    undetected: float,
    seed: int,
) -> GalleryQueries:
    """Draw phrases to search for, and say which images show what they describe.

    Parameters are those of :func:`calibrate`.
    """
    random = np.random.default_rng(seed)
    targets: dict[tuple[int, int], list[npt.NDArray[np.float32]]] = {}
    for row, located in enumerate(examples.located.tolist()):
        boxes = targets.setdefault((int(examples.phrase[row]), int(examples.image[row])), [])
        if located:
            boxes.append(examples.boxes[row])
    pairs = list(targets)
    drawn = [pairs[place] for place in random.permutation(len(pairs)).tolist()]
    chosen = list({phrase: (phrase, own) for phrase, own in drawn}.values())[:_MAX_PHRASES]
    phrases = examples.phrases[np.array([phrase for phrase, _ in chosen], np.int64)]
    return GalleryQueries(
        phrases=phrases,
        own=np.array([own for _, own in chosen], np.int64),
        boxes=[np.array(targets[pair], np.float32).reshape(-1, 4) for pair in chosen],
        relevance=relevance(phrases.texts, descriptions, _detected_classes(store, keys)),
        undetected=random.random(len(chosen)) < undetected,
    )


def _detected_classes(store: Regions, keys: Sequence[RowKey]) -> list[set[str]]:
    """Return the classes that the detector is fairly sure to have found in each image."""
    found = []
    for key in keys:
        table = store.gather([key])
        rows = np.flatnonzero(table.scores[1:] >= _FAIRLY_SURE) + 1
        found.append({table.label(row) for row in rows.tolist()})
    return found
