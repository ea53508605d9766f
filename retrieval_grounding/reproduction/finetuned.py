"""The stages that fine-tune a model before the matchers are trained."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import GroundingError
from ..core.paths import absolute_path
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
    splits: Sequence[str],
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
    splits : sequence of str
        The splits of the expressions.
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
        If the model is an object without a name, or cannot be fine-tuned.
    """
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
    tuned: ClipTuning | YoloTuning
    if kind == "yolo":
        from ..finetuning.yolo.options import YoloTuningOptions
        from ..finetuning.yolo.run import finetune_yolo

        given["detector"] = _named(models.detector or preset.detector)
        tuned = finetune_yolo(index, target, **given, options=YoloTuningOptions(seed=seed))
    else:
        from ..finetuning.clip.options import ClipTuningOptions
        from ..finetuning.clip.run import finetune_clip

        given["clip"] = _named(models.clip or preset.clip)
        tuned = finetune_clip(index, output=target, **given, options=ClipTuningOptions(seed=seed))
    weights = None if tuned.kept_original else str(target)
    return {"weights": weights, "report": tuned.as_dict()}


def _named(model: object) -> str:
    if not isinstance(model, str):
        raise GroundingError("only models with a name can be fine-tuned, not objects")
    return model
