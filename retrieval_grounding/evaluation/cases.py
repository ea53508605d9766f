"""Best and worst cases of an evaluation, to look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.types import Box
from ..data.resolve import Resolved
from .predictions import Predictions, RegionFacts

__all__ = ["Case", "best_cases", "worst_cases"]

_CASES = 12


@dataclass(frozen=True)
class Case:
    """One expression with its prediction.

    Parameters
    ----------
    image : str
        Path of the image.
    content_hash : str
        Hash of the file that was indexed.
    phrase : str
        The expression.
    truth, answer : tuple of 4 float
        The true and the predicted box: corners in pixels of the image.
    iou : float
        Overlap of the two.
    oracle : float
        Overlap of the best region with the truth.
    """

    image: str
    content_hash: str
    phrase: str
    truth: Box
    answer: Box
    iou: float
    oracle: float


def best_cases(resolved: Resolved, facts: RegionFacts, predictions: Predictions) -> list[Case]:
    """Return the predictions with the highest IoU, at most one for each image."""
    rows = _one_per_image(np.argsort(-predictions.iou, kind="stable"), resolved)
    return _make_cases(rows, resolved, facts, predictions)


def worst_cases(resolved: Resolved, facts: RegionFacts, predictions: Predictions) -> list[Case]:
    """Return the wrong predictions that are furthest behind the best region of their image.

    At most one for each image; cases without a better region are left out.
    """
    iou, oracle = predictions.iou, facts.oracle
    rows = _one_per_image(np.argsort(iou - oracle, kind="stable"), resolved)
    wrong = [row for row in rows if not predictions.correct[row] and iou[row] < oracle[row]]
    return _make_cases(wrong, resolved, facts, predictions)


def _one_per_image(order: npt.NDArray[np.int64], resolved: Resolved) -> list[int]:
    """Return the first rows of `order` that are about different images."""
    first_rows: dict[str, int] = {}
    for row in order.tolist():
        first_rows.setdefault(resolved.pairs[row][1].path, row)
        if len(first_rows) == _CASES:
            break
    return list(first_rows.values())


def _make_cases(
    rows: Iterable[int], resolved: Resolved, facts: RegionFacts, predictions: Predictions
) -> list[Case]:
    cases = []
    for row in rows:
        expression, image = resolved.pairs[row]
        x1, y1, x2, y2 = predictions.box[row].tolist()
        cases.append(
            Case(
                image=image.path,
                content_hash=image.content_hash,
                phrase=expression.phrase,
                truth=expression.box,
                answer=(x1, y1, x2, y2),
                iou=float(predictions.iou[row]),
                oracle=float(facts.oracle[row]),
            )
        )
    return cases
