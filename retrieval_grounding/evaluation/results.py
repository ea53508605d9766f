"""What each matcher answered to each expression: as records, as JSON lines, as a data frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..core.errors import GroundingError
from ..core.output_file import write_output
from ..core.strict_json import json_text
from ..core.types import PathLike
from ..data.expressions import Expression
from .predictions import Predictions, RegionFacts

if TYPE_CHECKING:
    import pandas

__all__ = ["ExpressionResults", "MatcherResults", "expression_results", "write_predictions"]


@dataclass(frozen=True)
class MatcherResults:
    """The answers of one matcher to n expressions.

    Parameters
    ----------
    boxes : float64 array of shape (n, 4)
        Corners in the pixels of the file of expressions.
    scores, iou : float32 arrays of shape (n,)
        Score of the box, and its overlap with the truth.
    """

    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float32]
    iou: npt.NDArray[np.float32]


@dataclass(frozen=True)
class ExpressionResults:
    """n expressions, as they are in their file, with every matcher's answer.

    Parameters
    ----------
    expressions : sequence of n Expression
        In the order of their file.
    oracle : float32 array of shape (n,)
        IoU of the best region.
    matchers : mapping of str to MatcherResults
        By name.
    shown : str
        The matcher whose box is the answer where only one is wanted.
    """

    expressions: Sequence[Expression]
    oracle: npt.NDArray[np.float32]
    matchers: Mapping[str, MatcherResults]
    shown: str

    def __len__(self) -> int:
        return len(self.expressions)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one object for each expression; boxes are ``x, y, width, height`` in pixels.

        ``bbox`` is the answer of the matcher `shown`, so ``evaluate --reference`` reads them.
        """
        for row, expression in enumerate(self.expressions):
            answers = {
                name: {
                    "bbox": _sides(found.boxes[row]),
                    "score": float(found.scores[row]),
                    "iou": float(found.iou[row]),
                }
                for name, found in self.matchers.items()
            }
            yield {
                "image": expression.image,
                "expression": expression.phrase,
                "bbox": answers[self.shown]["bbox"],
                "split": expression.split,
                "dataset": expression.dataset,
                "object_id": expression.object_id,
                "truth": _sides(np.array(expression.box)),
                "oracle": float(self.oracle[row]),
                "matchers": answers,
            }

    def to_frame(self) -> pandas.DataFrame:
        """Return a data frame with one row for each expression and matcher; see the report."""
        try:
            import pandas
        except ImportError as error:
            raise GroundingError(
                "a data frame needs pandas; install it with 'pip install pandas'"
            ) from error
        n, names = len(self), list(self.matchers)
        truth = np.array([expression.box for expression in self.expressions])
        boxes = np.concatenate([found.boxes for found in self.matchers.values()])
        columns: dict[str, Any] = {
            key: [getattr(expression, key) for expression in self.expressions] * len(names)
            for key in ("image", "phrase", "split", "dataset", "category", "object_id")
        }
        columns["matcher"] = np.repeat(names, n)
        for prefix, corners in (("", boxes), ("truth_", np.tile(truth, (len(names), 1)))):
            for column, name in enumerate(("x1", "y1", "x2", "y2")):
                columns[f"{prefix}{name}"] = corners[:, column]
        columns["score"] = np.concatenate([found.scores for found in self.matchers.values()])
        columns["iou"] = np.concatenate([found.iou for found in self.matchers.values()])
        columns["oracle"] = np.tile(self.oracle, len(names))
        return pandas.DataFrame(columns)


def expression_results(
    originals: Sequence[Expression],
    resolved: Sequence[Expression],
    facts: RegionFacts,
    predictions: Mapping[str, Predictions],
    shown: str,
) -> ExpressionResults:
    """Return what each matcher answered to each expression.

    Parameters
    ----------
    originals, resolved : sequences of n Expression
        As in their file, and in the pixels of the index's images.
    facts : RegionFacts
        About the same expressions.
    predictions : mapping of str to Predictions
        By matcher.
    shown : str
        The matcher whose box is the answer.
    """
    scale = np.array([_scale(*pair) for pair in zip(originals, resolved, strict=True)])
    matchers = {
        name: MatcherResults(found.box * scale, found.present, found.iou)
        for name, found in predictions.items()
    }
    return ExpressionResults(originals, facts.oracle, matchers, shown)


def write_predictions(results: ExpressionResults, path: PathLike) -> None:
    """Write JSON lines, one for each expression, in one step.

    Raises
    ------
    GroundingError
        If the file cannot be written.
    """
    lines = (json_text(record, ensure_ascii=False) for record in results.records())
    text = "".join(f"{line}\n" for line in lines)
    write_output(path, text.encode("utf-8", "backslashreplace"))


def _scale(original: Expression, resolved: Expression) -> tuple[float, float, float, float]:
    """Return what turns corners in an indexed image into corners in the expression's image."""
    if original.image_size is None or resolved.image_size is None:
        return 1.0, 1.0, 1.0, 1.0
    x = original.image_size[0] / resolved.image_size[0]
    y = original.image_size[1] / resolved.image_size[1]
    return x, y, x, y


def _sides(corners: npt.NDArray[np.floating]) -> list[float]:
    x1, y1, x2, y2 = corners.tolist()
    return [x1, y1, x2 - x1, y2 - y1]
