"""Fitting a matcher: statements about images of an index → examples → training → calibration."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from ..core.errors import GroundingError
from ..core.text import counted
from ..core.types import PathLike, RowKey
from ..data.expressions import read_expressions
from ..data.resolve import resolve_images
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from .batch import RegionTensors
from .calibrate import UNDETECTED, calibrate
from .dataset import RegionSource, StreamedRegions, split_by_image
from .load import MATCHER_FILE
from .matcher import Matcher
from .model import MatcherConfig, make_model
from .plots import draw_curve
from .statements import Statement, make_examples, pseudo_statements, resolved_statements
from .train_state import TrainingOptions, TrainingRun
from .trained import TrainedMatcher
from .trainer import train_model
from .vocabulary import frequent_words

__all__ = ["Fit", "fit_matcher", "train_index"]


_VALIDATION_SHARE = 0.1
_CALIBRATION_SHARE = 0.1
_LEAST_IMAGES = 10
_LEAST_USES = 8
_MOST_WORDS = 4000


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
    undetected: float = UNDETECTED,
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
    undetected : float
        Share of the phrases whose answer calibration takes away: for pseudo-queries, which only
        name what was detected.

    Raises
    ------
    GroundingError
        If there are fewer than ten images with statements.
    """
    options = options or TrainingOptions()
    keys = list(dict.fromkeys(statement.key for statement in statements))
    if len(keys) < _LEAST_IMAGES:
        raise GroundingError(
            f"there are expressions for {counted(len(keys), 'image')}, and training needs at least "
            f"{_LEAST_IMAGES}; give more, or learn from the index itself with --refs pseudo"
        )
    examples = make_examples(statements, keys, encoder)
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
    matcher.calibration = calibrate(
        matcher, store, keys, calibrating, options.seed, undetected=undetected
    )
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
    start: Matcher | None,
) -> Fit:
    """Fit a matcher and write it into the index, with its learning curve.

    The caller holds the writer's lock. See :meth:`retrieval_grounding.Index.train`.
    """
    if start is not None and not isinstance(start, TrainedMatcher):
        raise GroundingError(
            "the index answers by cosine, so there is no matcher to fine-tune; train one first"
        )
    store = RegionStore(catalog)
    options = options or TrainingOptions()
    if source == "pseudo":
        keys = dict.fromkeys((image.shard, image.row) for image in catalog.images())
        statements = pseudo_statements(store, keys, options.seed)
        told = f"pseudo-queries of {counted(len(keys), 'image')}"
    else:
        expressions = read_expressions(
            source,
            splits=splits,
            first_sentence_only=first_sentence_only,
            one_object_per_image=one_object_per_image,
        )
        statements = resolved_statements(resolve_images(expressions, catalog.images()))
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
        undetected=UNDETECTED if source == "pseudo" else 0.0,
    )
    fit.matcher.save(catalog.directory / MATCHER_FILE)
    fit.run.write_csv(catalog.directory / "matcher-curve.csv")
    draw_curve(fit.run, catalog.directory / "matcher-curve.png")
    checkpoint.unlink(missing_ok=True)
    return fit


def _source(store: RegionStore, keys: Sequence[RowKey], device: str) -> tuple[RegionSource, bool]:
    """Return the regions of `keys`, and whether they are resident on the device."""
    if store.bytes_of(keys) < _free_memory(device) / 2:
        return RegionTensors(store.gather(keys), device), True
    return StreamedRegions(store, keys, device), False


def _free_memory(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
