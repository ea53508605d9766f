"""The stages that fine-tune a model before the matchers are trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import GroundingError
from .variants import Models

__all__ = ["FINETUNED", "finetune"]

FINETUNED = {"yolo": "YOLO fine-tuned, cosine", "clip": "CLIP fine-tuned, cosine"}
"""What can be fine-tuned, and what the report calls the step."""


def finetune(
    kind: str,
    models: Models,
    images: Path,
    expressions: Path,
    place: Path,
    splits: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Fine-tune a model on the training split; return ``weights``, its name for a build."""
    raise GroundingError(f"fine-tuning {kind} is not part of this release; leave --finetune out")
