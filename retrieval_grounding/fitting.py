"""Fitting a matcher: statements about images of an index → examples → training → calibration."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import psutil
import torch

from .encoders import Encoder
from .errors import GroundingError
from .gathering import ImageKey, RegionStore
from .images import PathLike
from .matching import CosineMatcher, Matcher
from .matching.batches import RegionTensors
from .matching.calibration import Calibration, fit_calibration
from .matching.curves import draw_curve
from .matching.examples import Examples, RegionSource, StreamedRegions, split_by_image
from .matching.loading import MATCHER_FILE, bundled_matcher
from .matching.model import MatcherConfig, make_model
from .matching.trained import TrainedMatcher
from .matching.training import TrainingOptions, TrainingRun, train_model
from .matching.words import frequent_words
from .referring import Resolved, read_expressions, resolve_images
from .referring.pseudo import pseudo_queries
from .referring.wording import mirror_phrase
from .regions import pairwise_iou
from .storage.catalog import Catalog
from .tables import Phrases

__all__ = [
    "Fit",
    "Statement",
    "answer_scores",
    "calibrate_cosine",
    "calibrate_index",
    "fit_matcher",
    "pseudo_statements",
    "train_index",
]

_VALIDATION_SHARE = 0.1
_CALIBRATION_SHARE = 0.1
_LEAST_IMAGES = 10
_COSINE_IMAGES = 300
_LEAST_USES = 8
_MOST_WORDS = 4000
_PHRASES_PER_CALL = 4096
_MOST_CALIBRATED = 2000
_UNDETECTED = 0.25
SAME_OBJECT = 0.5


@dataclass(frozen=True)
class Statement:
    """What somebody says of an image.

    Parameters
    ----------
    key : (shard, row)
        Where the image's regions lie.
    phrase : str
        The words.
    box : tuple of 4 float, or None
        Corners of what is meant, as fractions of the image's width and height; None if the
        phrase holds for the image but nobody knows where.
    """

    key: ImageKey
    phrase: str
    box: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Fit:
    """A fitted matcher and how it came about.

    Parameters
    ----------
    matcher : TrainedMatcher
        Calibrated if the held-out images allow it.
    run : TrainingRun
        Learning curve.
    images, expressions : int
        What was learnt from, held-out images included.
    resident : bool
        Whether all regions stayed on the device.
    """

    matcher: TrainedMatcher
    run: TrainingRun
    images: int
    expressions: int
    resident: bool

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        best, calibration = self.run.best, self.matcher.calibration
        return {
            "kind": self.matcher.config.kind,
            "images": self.images,
            "expressions": self.expressions,
            "epochs": len(self.run.epochs),
            "best_epoch": best.number,
            "validation_acc@0.5": best.accuracy,
            "validation_mean_iou": best.mean_iou,
            "calibration": None if calibration is None else calibration.as_dict(),
            "resident": self.resident,
        }


def fit_matcher(
    store: RegionStore,
    encoder: Encoder,
    statements: Sequence[Statement],
    *,
    kind: Literal["residual", "concat"] = "residual",
    options: TrainingOptions | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
    start: TrainedMatcher | None = None,
    trained_on: str = "",
) -> Fit:
    """Train a matcher on cached features and calibrate it on images that it has not seen.

    Of the images, a tenth decides when training stops and a tenth calibrates. Regions stay on the
    device if half of its free memory holds them, else they are read from the shards batch by batch.

    Parameters
    ----------
    store : RegionStore
        The index's regions.
    encoder : Encoder
        Embeds the phrases, each once.
    statements : sequence of Statement
        What to learn from.
    kind : str
        ``"residual"`` or ``"concat"``.
    options : TrainingOptions, optional
        How to train.
    device : str
        Where.
    checkpoint : Path, optional
        Lets a killed training go on; the caller deletes it afterwards.
    start : TrainedMatcher, optional
        Begin with its weights and keep its words and kind, instead of from nothing: for few
        expressions.
    trained_on : str
        Kept with the matcher, for people.

    Raises
    ------
    GroundingError
        If there are fewer than ten images with statements.
    """
    options = options or TrainingOptions()
    keys = list(dict.fromkeys(statement.key for statement in statements))
    if len(keys) < _LEAST_IMAGES:
        raise GroundingError(
            f"there are expressions for {len(keys)} images, and training needs at least "
            f"{_LEAST_IMAGES}; give more, or learn from the index itself with --refs pseudo"
        )
    examples = _examples(statements, keys, encoder)
    regions, resident = _source(store, keys, device)
    rest, calibrating = split_by_image(examples, _CALIBRATION_SHARE, options.seed)
    training, validation = split_by_image(
        rest, _VALIDATION_SHARE / (1 - _CALIBRATION_SHARE), options.seed + 1
    )
    texts = [examples.phrases.texts[number] for number in training.phrase]
    if start is not None:
        start.check(encoder.fingerprint)
        config, vocabulary = start.config, start.vocabulary
        model = copy.deepcopy(start.model).requires_grad_(True).to(device)
    else:
        vocabulary = frequent_words(texts, _LEAST_USES, _MOST_WORDS) if kind == "residual" else []
        torch.manual_seed(options.seed)
        config = MatcherConfig(kind, encoder.dimension, len(vocabulary))
        model = make_model(config).to(device)
    run = train_model(model, vocabulary, regions, training, validation, options, checkpoint)
    matcher = TrainedMatcher(
        model.requires_grad_(False), config, vocabulary, encoder.fingerprint, None, trained_on
    )
    matcher.calibration = _calibrate(matcher, store, keys, calibrating, options.seed)
    return Fit(matcher, run, len(keys), len(examples), resident)


def train_index(
    catalog: Catalog,
    encoder: Encoder,
    source: PathLike | Literal["pseudo"],
    *,
    splits: Sequence[str] | None,
    first_sentence_only: bool,
    one_object_per_image: bool,
    kind: Literal["residual", "concat"],
    options: TrainingOptions | None,
    device: str,
    start: TrainedMatcher | None,
) -> Fit:
    """Fit a matcher and write it into the index, with its learning curve.

    The caller holds the writer's lock. See :meth:`retrieval_grounding.Index.train`.
    """
    store = RegionStore(catalog)
    options = options or TrainingOptions()
    if source == "pseudo":
        keys = dict.fromkeys((image.shard, image.row) for image in catalog.images())
        statements = pseudo_statements(store, keys, options.seed)
        told = f"pseudo-queries of {len(keys)} images"
    else:
        expressions = read_expressions(
            source,
            splits=splits,
            first_sentence_only=first_sentence_only,
            one_object_per_image=one_object_per_image,
        )
        statements = _statements(resolve_images(expressions, catalog.images()))
        told = f"{expressions}, of which {len(statements)} are about images of the index"
    checkpoint = catalog.directory / "matcher.training"
    fit = fit_matcher(
        store,
        encoder,
        statements,
        kind=kind,
        options=options,
        device=device,
        checkpoint=checkpoint,
        start=start,
        trained_on=told,
    )
    fit.matcher.save(catalog.directory / MATCHER_FILE)
    fit.run.write_csv(catalog.directory / "matcher-curve.csv")
    draw_curve(fit.run, catalog.directory / "matcher-curve.png")
    checkpoint.unlink(missing_ok=True)
    return fit


def _statements(resolved: Resolved) -> list[Statement]:
    statements = []
    for expression, image in resolved.pairs:
        x1, y1, x2, y2 = expression.box
        box = (x1 / image.width, y1 / image.height, x2 / image.width, y2 / image.height)
        statements.append(Statement((image.shard, image.row), expression.phrase, box))
    return statements


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
    store: RegionStore, encoder: Encoder, keys: Iterable[ImageKey], seed: int = 0
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
    examples = _examples(statements, told, encoder)
    return _calibrate(CosineMatcher(), store, told, examples, seed)


def answer_scores(
    matcher: Matcher,
    store: RegionStore,
    keys: Sequence[ImageKey],
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
            kept = (iou < SAME_OBJECT) | (np.arange(len(iou)) == 0)
            table, iou = table.of_one_image(kept), iou[kept]
        found = matcher.score(examples.phrases[examples.phrase[[row]]], table)[0]
        best = int(found.argmax())
        scores[row], overlaps[row] = found[best], iou[best]
    return scores, overlaps


def _examples(
    statements: Sequence[Statement], keys: Sequence[ImageKey], encoder: Encoder
) -> Examples:
    turned = {s.phrase: mirror_phrase(s.phrase) for s in statements}
    texts = list(dict.fromkeys([*turned, *turned.values()]))
    parts = [
        encoder.encode_phrases(texts[start : start + _PHRASES_PER_CALL])
        for start in range(0, len(texts), _PHRASES_PER_CALL)
    ]
    place = {key: number for number, key in enumerate(keys)}
    number = {text: row for row, text in enumerate(texts)}
    nowhere = (np.nan,) * 4
    return Examples(
        Phrases(texts, np.concatenate(parts)),
        np.array([number[s.phrase] for s in statements], np.int64),
        np.array([number[turned[s.phrase]] for s in statements], np.int64),
        np.array([place[s.key] for s in statements], np.int64),
        np.array([s.box or nowhere for s in statements], np.float32),
    )


def _source(store: RegionStore, keys: Sequence[ImageKey], device: str) -> tuple[RegionSource, bool]:
    """Return the regions of `keys`, and whether they are resident on the device."""
    if store.bytes_of(keys) < _free_memory(device) / 2:
        return RegionTensors(store.gather(keys), device), True
    return StreamedRegions(store, keys, device), False


def _free_memory(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _calibrate(
    matcher: Matcher,
    store: RegionStore,
    keys: Sequence[ImageKey],
    examples: Examples,
    seed: int,
) -> Calibration | None:
    """Fit probabilities to phrases asked of their own image and of another, half and half.

    Every expression of a training file has a box, and every pseudo-query even a detected one,
    whereas people also ask for what the detector has missed. So some answers are taken away.
    """
    located = np.flatnonzero(np.isfinite(examples.boxes).all(1))
    random = np.random.default_rng(seed)
    chosen = examples.take(random.permutation(located)[:_MOST_CALIBRATED])
    images = np.unique(chosen.image)
    if len(images) < 2:
        return None
    place = np.searchsorted(images, chosen.image)
    others = images[(place + random.integers(1, len(images), len(chosen))) % len(images)]
    missed = random.random(len(chosen)) < _UNDETECTED
    own, overlaps = answer_scores(matcher, store, keys, chosen, chosen.image, missed)
    foreign, _ = answer_scores(matcher, store, keys, chosen, others, np.zeros(len(chosen), bool))
    right = np.concatenate([overlaps >= SAME_OBJECT, np.zeros(len(foreign), bool)])
    return fit_calibration(np.concatenate([own, foreign]), right)


def pseudo_statements(store: RegionStore, keys: Iterable[ImageKey], seed: int) -> list[Statement]:
    """Return pseudo-queries for the images at `keys`; see :mod:`.referring.pseudo`."""
    wanted = list(keys)
    statements: list[Statement] = []
    for start in range(0, len(wanted), 1000):
        part = wanted[start : start + 1000]
        table = store.gather(part)
        queries = pseudo_queries(table, seed)
        whole = table.boxes[table.offsets[queries.images]]
        boxes = table.boxes[queries.rows] / np.tile(whole[:, 2:], 2)
        for image, phrase, box in zip(queries.images, queries.phrases, boxes.tolist(), strict=True):
            statements.append(Statement(part[image], phrase, tuple(box)))
    return statements
