"""Fitting a matcher: train its network on statements, then calibrate it on held-out images."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ..core.errors import GroundingError
from ..core.text import counted
from ..models.encoder import Encoder
from ..storage.region_store import RegionStore
from .batch import RegionTensors
from .calibrate import UNDETECTED, calibrate
from .dataset import Examples, split_by_image
from .history import TrainingHistory
from .model import MatcherConfig
from .networks import make_model
from .options import TrainingOptions
from .region_source import open_regions
from .statements import Statement, make_examples
from .trained import TrainedMatcher
from .trainer import train_model
from .vocabulary import frequent_words

__all__ = ["Fit", "fit_matcher"]


_VALIDATION_SHARE = 0.1
_CALIBRATION_SHARE = 0.1
_MIN_IMAGES = 10
_MIN_WORD_COUNT = 8
_MAX_WORDS = 4000


@dataclass(frozen=True)
class Fit:
    """A fitted matcher and how it was trained.

    Parameters
    ----------
    matcher : TrainedMatcher
        Calibrated if the held-out images allow it.
    history : TrainingHistory
        The learning curve.
    images, expressions : int
        How many were used, held-out ones included.
    resident : bool
        Whether all regions stayed on the device.
    """

    matcher: TrainedMatcher
    history: TrainingHistory
    images: int
    expressions: int
    resident: bool

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        best, calibration = self.history.best, self.matcher.calibration
        return {
            "kind": self.matcher.config.kind,
            "images": self.images,
            "expressions": self.expressions,
            "epochs": len(self.history.epochs),
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
    undetected: float = UNDETECTED,
) -> Fit:
    """Train a matcher on cached features and calibrate it on images that it has not seen.

    A tenth of the images decides when training stops, and a tenth calibrates. Regions stay on the
    device if half of its free memory holds them; otherwise each batch is read from the shards.

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
        Where to train.
    checkpoint : Path, optional
        Lets an interrupted run resume; the caller deletes the file afterwards.
    start : TrainedMatcher, optional
        Fine-tune this matcher, with its vocabulary and kind, instead of training from scratch.
        Suited to a few hundred expressions.
    trained_on : str
        Description of the data, stored with the matcher.
    undetected : float
        Share of the phrases for which calibration removes the target: for pseudo-queries, which
        only name what was detected.

    Raises
    ------
    GroundingError
        If there are statements about fewer than ten images.
    ModelError
        If `start` was trained for a different encoder, or the checkpoint does not fit.
    """
    options = options or TrainingOptions()
    keys = list(dict.fromkeys(statement.key for statement in statements))
    if len(keys) < _MIN_IMAGES:
        raise GroundingError(
            f"there are expressions for {counted(len(keys), 'image')}, and training needs at least "
            f"{_MIN_IMAGES}; add more, or learn from the index itself with --refs pseudo"
        )
    examples = make_examples(statements, keys, encoder)
    regions = open_regions(store, keys, device)
    training, validation, calibration = _split(examples, options.seed)
    if start is None:
        matcher = _new_matcher(kind, training, encoder, options.seed, device)
    else:
        start.check(encoder.fingerprint)
        matcher = _trainable_copy(start, encoder, device)
    matcher.trained_on = trained_on
    history = train_model(
        matcher.model, matcher.vocabulary, regions, training, validation, options, checkpoint
    )
    matcher.model.requires_grad_(False)
    matcher.calibration = calibrate(
        matcher, store, keys, calibration, options.seed, undetected=undetected
    )
    resident = isinstance(regions, RegionTensors)
    return Fit(matcher, history, len(keys), len(examples), resident)


def _split(examples: Examples, seed: int) -> tuple[Examples, Examples, Examples]:
    """Return examples for training, validation and calibration, of different images."""
    rest, calibration = split_by_image(examples, _CALIBRATION_SHARE, seed)
    validation_share = _VALIDATION_SHARE / (1 - _CALIBRATION_SHARE)
    training, validation = split_by_image(rest, validation_share, seed + 1)
    return training, validation, calibration


def _new_matcher(
    kind: Literal["residual", "concat"],
    training: Examples,
    encoder: Encoder,
    seed: int,
    device: str,
) -> TrainedMatcher:
    """Return an untrained matcher; the residual network knows the frequent words of `training`."""
    vocabulary: list[str] = []
    if kind == "residual":
        texts = [training.phrases.texts[row] for row in training.phrase]
        vocabulary = frequent_words(texts, _MIN_WORD_COUNT, _MAX_WORDS)
    torch.manual_seed(seed)
    config = MatcherConfig(kind, encoder.dimension, len(vocabulary))
    return TrainedMatcher(make_model(config).to(device), config, vocabulary, encoder.fingerprint)


def _trainable_copy(matcher: TrainedMatcher, encoder: Encoder, device: str) -> TrainedMatcher:
    """Return a matcher with a copy of the network that can be trained, and no calibration."""
    model = copy.deepcopy(matcher.model).requires_grad_(True).to(device)
    return TrainedMatcher(model, matcher.config, matcher.vocabulary, encoder.fingerprint)
