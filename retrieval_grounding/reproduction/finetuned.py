"""The stages that fine-tune a model before the matchers are trained."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import GroundingError
from ..core.paths import absolute_path
from ..finetuning.clip.options import ClipTuningOptions
from ..finetuning.clip.report import ClipTuning
from ..finetuning.clip.run import finetune_clip
from ..finetuning.yolo.options import YoloTuningOptions
from ..finetuning.yolo.report import YoloTuning
from ..finetuning.yolo.run import finetune_yolo
from ..models.presets import DEFAULT_PRESET, get_preset
from .variants import Models

if TYPE_CHECKING:
    from ..finetuning.clip.report import ClipTuning
    from ..finetuning.yolo.report import YoloTuning

__all__ = ["FINETUNED", "finetune"]

FINETUNED = {"yolo": "YOLO fine-tuned, cosine", "clip": "CLIP fine-tuned, cosine"}
"""What can be fine-tuned, and what the report calls the step."""


def finetune(
    kind: str,
    models: Models,
    index: Path,
    expressions: Path,
    place: Path,
    splits: Mapping[str, Mapping[str, int]],
    *,
    epochs: int,
    seed: int,
) -> dict[str, Any]:
    """Fine-tune a model on the split ``train``; the better one is chosen with ``val`` if it exists.

    Parameters
    ----------
    kind : str
        One of :data:`FINETUNED`.
    models : Models
        Those to start from.
    index : Path
        An index that they have built.
    expressions : Path
        The file of expressions.
    place : Path
        The folder for the new weights.
    splits : mapping of str to dict
        The splits of the expressions, with their number of ``images``.
    epochs : int
        Passes over the images; for CLIP, at most so many, and at most the default number of steps.
    seed : int
        Seed of every random choice.

    Returns
    -------
    dict
        ``weights``: the path of the new weights, or None if the original is better; ``report``:
        the figures.

    Raises
    ------
    GroundingError
        If there is nothing to train on, or the models are objects without a name, or cannot be
        fine-tuned.
    """
    if "train" not in splits:
        raise GroundingError("fine-tuning needs a split called train; leave --finetune out")
    preset = get_preset(models.preset or DEFAULT_PRESET)
    given: dict[str, Any] = {
        "refs": expressions,
        "splits": ["train"],
        "held_out": ["val"] if "val" in splits else [],
        "device": models.device,
    }
    # An index names its models, wherever it is opened from.
    target = Path(absolute_path(place)) / ("detector.pt" if kind == "yolo" else "clip")
    # What is there is of a run that ended before it could record that.
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    tuned: YoloTuning | ClipTuning
    if kind == "yolo":
        detector = _named(models.detector or preset.detector)
        yolo = YoloTuningOptions(epochs=epochs, seed=seed)
        tuned = finetune_yolo(index, target, **given, detector=detector, options=yolo)
    else:
        name = _named(models.clip or preset.clip)
        clip = ClipTuningOptions(seed=seed)
        passes = math.ceil(epochs * splits["train"]["images"] / clip.batch_images)
        clip = replace(clip, steps=max(1, min(clip.steps, passes)))
        tuned = finetune_clip(index, output=target, **given, clip=name, options=clip)
    weights = None if tuned.kept_original else str(target)
    return {"weights": weights, "report": tuned.as_dict()}


def _named(model: object) -> str:
    if not isinstance(model, str):
        raise GroundingError("only models with a name can be fine-tuned, not objects")
    return model
