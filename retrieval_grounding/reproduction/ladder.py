"""What each step adds: paired differences of IoU between steps, on the same expressions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.bootstrap import bootstrap_means

__all__ = ["Step", "measure_steps"]


@dataclass(frozen=True)
class Step:
    """A method on the way from the published models to the best.

    Parameters
    ----------
    title : str
        What is new.
    predictions : Path
        Its answers, as :func:`.results.write_predictions` writes them.
    matcher : str
        Whose answers.
    """

    title: str
    predictions: Path
    matcher: str


def measure_steps(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return mean IoU, oracle, and gain over the step before, with 95% intervals.

    Expressions that some step does not answer are left out for all; the intervals resample images.
    """
    answers = [_answers(step) for step in steps]
    common = sorted(set.intersection(*(set(found) for found in answers)))
    if not common:
        return []
    images = {image: number for number, image in enumerate(dict.fromkeys(k[0] for k in common))}
    iou = np.array([[found[key][0] for found in answers] for key in common])
    oracle = np.array([[found[key][1] for found in answers] for key in common])
    columns = np.concatenate([iou, oracle, np.diff(iou, axis=1)], axis=1)
    estimates = bootstrap_means(columns, [images[key[0]] for key in common])
    n = len(steps)
    return [
        {
            "step": step.title,
            "matcher": step.matcher,
            "expressions": len(common),
            "mean_iou": asdict(estimates[row]),
            "oracle_iou": asdict(estimates[n + row]),
            "gain": asdict(estimates[2 * n + row - 1]) if row else None,
        }
        for row, step in enumerate(steps)
    ]


def _answers(step: Step) -> dict[tuple[str, str, str, int], tuple[float, float]]:
    """Return IoU and oracle by image, expression, box, and how often these came before."""
    found = {}
    before: Counter[tuple[str, str, str]] = Counter()
    with step.predictions.open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            record = json.loads(line)
            key = record["image"], record["expression"], json.dumps(record["truth"])
            found[(*key, before[key])] = record["matchers"][step.matcher]["iou"], record["oracle"]
            before[key] += 1
    return found
