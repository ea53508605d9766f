"""Fitting a matcher: train its network on statements, then calibrate it on held-out images."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..core.errors import GroundingError, ModelError
from ..core.text import counted
from ..core.types import RowKey
from ..models.encoder import Encoder
from ..storage.region_store import RegionStore
from ..storage.rows import LiveRow
from .batch import RegionTensors
from .calibrate import UNDETECTED, calibrate, descriptions_in
from .comparison import Comparison, compare, held_out_iou, sample_located
from .config import MatcherConfig
from .dataset import Examples
from .exit_pairs import exit_pairs
from .fit_early_exit import fit_early_exit
from .history import TrainingHistory
from .matcher import CosineMatcher, Matcher
from .networks import make_model
from .options import TrainingOptions
from .plots import fit_html
from .region_source import open_regions
from .residual_model import ResidualModel
from .split import Split, content_groups, split_examples
from .statements import Statement, make_examples
from .trained import TrainedMatcher
from .trainer import train_model
from .training_images import TrainingImages
from .vocabulary import frequent_words

__all__ = ["MIN_IMAGES", "Fit", "fit_matcher"]


MIN_IMAGES = 10
"""Images with different contents that training needs at least."""

_MIN_WORD_COUNT = 8
_MAX_WORDS = 4000


@dataclass(frozen=True, repr=False)
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
    comparisons : sequence of Comparison
        The matcher and others on held-out expressions: cosine, and the matcher in use before.
    problem : str
        Why the matcher should not be used: training diverged, or ended worse than what there was.
        Empty if it should.
    installed : bool
        Whether the index uses the matcher now.
    notes : sequence of str
        What to know about the figures.
    """

    matcher: TrainedMatcher
    history: TrainingHistory
    images: int
    expressions: int
    resident: bool
    comparisons: Sequence[Comparison] = ()
    problem: str = ""
    installed: bool = False
    notes: Sequence[str] = field(default=(), repr=False)

    @property
    def reason(self) -> str:
        """Why the index does not use the matcher, in one sentence; empty if it does."""
        if not self.problem:
            return ""
        return f"the trained matcher is not installed: {self.problem}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        best, calibration = self.history.best, self.matcher.calibration
        return {
            "kind": self.matcher.config.kind,
            "images": self.images,
            "expressions": self.expressions,
            "epochs": len(self.history.epochs),
            "best_epoch": None if best is None else best.number,
            "validation_acc@0.5": None if best is None else best.accuracy,
            "validation_mean_iou": None if best is None else best.mean_iou,
            "calibration": None if calibration is None else calibration.as_dict(),
            "resident": self.resident,
            "installed": self.installed,
            "reason": self.reason or None,
            "held_out": [comparison.as_dict() for comparison in self.comparisons],
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        best = self.history.best
        kept = "" if best is None else f", validation Acc@0.5 {best.accuracy:.3f}"
        about = f"{counted(self.expressions, 'expression')}, {counted(self.images, 'image')}"
        state = "installed" if self.installed else "not installed"
        return f"<Fit {self.matcher.config.kind}: {about}{kept}; {state}>"

    def _repr_html_(self) -> str:
        """Show the learning curve and the held-out figures in a notebook."""
        remarks = [text for text in (repr(self).strip("<>"), self.reason, *self.notes) if text]
        return fit_html(self.history, self.comparisons, remarks)


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
    current: Matcher | None = None,
    rows: Mapping[RowKey, LiveRow] | None = None,
    trained_on: str = "",
    undetected: float = UNDETECTED,
) -> Fit:
    """Train a matcher on cached features and calibrate it on images that it has not seen.

    A tenth of the images decides when training stops, and a tenth calibrates; copies of an image
    are never on both sides. On these two tenths, the matcher is compared with cosine and with
    `current`. Regions stay on the device if half of its free memory holds them; otherwise each
    batch is read from the shards.

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
        Suited to a few hundred expressions. Its training images are not held out, as far as it
        has recorded them and others can be.
    current : Matcher, optional
        The matcher in use.
    rows : mapping of (shard, row) to LiveRow, optional
        What the catalog knows about the images; without it, contents are neither compared nor
        recorded.
    trained_on : str
        Description of the data, stored with the matcher.
    undetected : float
        Share of the phrases for which calibration removes the target: for pseudo-queries, which
        only name what was detected.

    Raises
    ------
    GroundingError
        If there are statements about fewer than ten images, or fewer than two with boxes.
    ModelError
        If `start` was trained for a different encoder, or the checkpoint does not fit.
    """
    options = options or TrainingOptions()
    keys = list(dict.fromkeys(statement.key for statement in statements))
    groups = content_groups(keys, rows)
    if (contents := len(np.unique(groups))) < MIN_IMAGES:
        raise GroundingError(
            f"there are expressions for {counted(contents, 'image')}, and training needs at least "
            f"{MIN_IMAGES}; add more"
        )
    if start is not None:
        start.check(encoder.fingerprint)
    examples = make_examples(statements, keys, encoder)
    regions = open_regions(store, keys, device)
    split = split_examples(examples, groups, _seen(start, keys, rows), options.seed)
    if start is None:
        matcher = _new_matcher(kind, split.training, encoder, options.seed, device)
    else:
        matcher = _trainable_copy(start, encoder, device)
    matcher.trained_on = trained_on
    matcher.images = _record_images(split, keys, rows, start)
    history = train_model(
        matcher.model,
        matcher.vocabulary,
        regions,
        split.training,
        split.validation,
        options,
        checkpoint,
        _origin(keys, rows, encoder),
    )
    matcher.model.requires_grad_(False)
    if history.diverged is None:
        fit_early_exit(matcher, exit_pairs(store, keys, split.training, options.seed))
    notes = []
    if split.reused:
        notes.append(
            f"{counted(split.reused, 'held-out image')} had trained the matcher that this one "
            "started from, so its figures on them are too good; add expressions about new images"
        )
    comparisons: list[Comparison] = []
    problem = f"training diverged in epoch {history.diverged}; use a lower --lr than {options.lr}"
    if history.diverged is None:
        try:
            comparisons, skipped = _compare(matcher, current, store, keys, split, rows, options)
            notes += skipped
            unseen = np.unique(split.held_out.image)
            matcher.calibration = calibrate(
                matcher,
                store,
                [keys[image] for image in unseen.tolist()],
                split.calibration.of_images(unseen),
                descriptions_in(examples.of_images(unseen), len(unseen)),
                options.seed,
                undetected=undetected,
            )
            problem = next((c.problem for c in comparisons if c.problem), "")
        except ModelError as error:
            problem = f"{error}, or use a lower --lr than {options.lr}"
    resident = isinstance(regions, RegionTensors)
    return Fit(
        matcher,
        history,
        len(keys),
        len(examples),
        resident,
        comparisons=comparisons,
        problem=problem,
        notes=notes,
    )


def _seen(
    start: TrainedMatcher | None, keys: Sequence[RowKey], rows: Mapping[RowKey, LiveRow] | None
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return whether each image is known to have trained a matcher, (images,)."""
    record = None if start is None else start.images
    if record is None or rows is None:
        return np.zeros(len(keys), bool)
    return np.array([record.trained_on(rows[key].content_hash) for key in keys], bool)


def _record_images(
    split: Split,
    keys: Sequence[RowKey],
    rows: Mapping[RowKey, LiveRow] | None,
    start: TrainedMatcher | None,
) -> TrainingImages | None:
    if rows is None:
        return None
    record = TrainingImages.of(
        *(
            [rows[keys[image]].content_hash for image in np.unique(part.image).tolist()]
            for part in (split.training, split.validation, split.calibration)
        )
    )
    if start is None or start.images is None:
        return record
    return TrainingImages(
        record.training | start.images.training, record.validation, record.calibration
    )


def _origin(keys: Sequence[RowKey], rows: Mapping[RowKey, LiveRow] | None, encoder: Encoder) -> str:
    """Return a hash of the images' contents and regions, and of the encoder's identity."""
    print_ = encoder.fingerprint
    digest = hashlib.blake2b(f"{print_.weights}\0{print_.preprocessing}".encode(), digest_size=16)
    for key in keys:
        row = None if rows is None else rows[key]
        about = str(key) if row is None else f"{row.content_hash} {row.checksum}"
        digest.update(f"\0{about}".encode())
    return digest.hexdigest()


def _compare(
    matcher: TrainedMatcher,
    current: Matcher | None,
    store: RegionStore,
    keys: Sequence[RowKey],
    split: Split,
    rows: Mapping[RowKey, LiveRow] | None,
    options: TrainingOptions,
) -> tuple[list[Comparison], list[str]]:
    """Compare a matcher with cosine and the current one on held-out expressions.

    Returns the comparisons, and a note if the current one cannot be compared.
    """
    examples = sample_located(split.held_out, options.seed)
    stored = _as_stored(matcher)
    iou = held_out_iou(stored, store, keys, examples)
    cosine = held_out_iou(CosineMatcher(), store, keys, examples)
    comparisons = [compare("cosine", examples.image, iou, cosine)]
    if current is None or isinstance(current, CosineMatcher):
        return comparisons, []
    fair = np.ones(len(examples), bool)
    if isinstance(current, TrainedMatcher):
        fair = ~_seen(current, keys, rows)[examples.image]
    if not fair.any():
        return comparisons, [
            "the matcher in use was trained on all held-out images, so the two are not compared"
        ]
    chosen = examples.take(fair)
    others = held_out_iou(current, store, keys, chosen)
    return [
        compare("the matcher in use", chosen.image, iou[fair], others),
        *comparisons,
    ], []


def _as_stored(matcher: TrainedMatcher) -> TrainedMatcher:
    """Return a copy of a matcher with its weights rounded as in its file."""
    model = copy.deepcopy(matcher.model)
    for value in model.state_dict().values():
        value.copy_(value.half())
    return TrainedMatcher(model.eval(), matcher.config, matcher.vocabulary, matcher.encoder)


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
    config = MatcherConfig(kind, encoder.dimension, len(vocabulary))
    with torch.random.fork_rng(devices=[]):  # the global generator belongs to the user
        torch.default_generator.manual_seed(seed)
        model = make_model(config)
    return TrainedMatcher(model.to(device), config, vocabulary, encoder.fingerprint)


def _trainable_copy(matcher: TrainedMatcher, encoder: Encoder, device: str) -> TrainedMatcher:
    """Return a matcher with a copy of the network that can be trained, and no calibration."""
    model = copy.deepcopy(matcher.model)
    if isinstance(model, ResidualModel):
        model.early = None  # of other weights
    model = model.requires_grad_(True).to(device)
    return TrainedMatcher(model, matcher.config, matcher.vocabulary, encoder.fingerprint)
