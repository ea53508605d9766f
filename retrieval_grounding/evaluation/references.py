"""Predictions of other systems, scored by the same figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.errors import ExpressionError, PhraseError
from ..core.phrases import clean_phrase
from ..core.regions import pairwise_iou
from ..core.types import Box
from ..data.expressions import Expression, is_normalized, parse_box
from ..data.readers import read_jsonl
from ..data.resolve import ImageNames
from ..storage.rows import ImageRow

__all__ = ["ReferenceScores", "score_predictions"]


@dataclass(frozen=True)
class ReferenceScores:
    """How a file's predictions overlap the truth.

    Parameters
    ----------
    iou : float32 array of shape (n,)
        0 where a prediction is missing.
    missing : int
        Expressions without a prediction.
    """

    iou: npt.NDArray[np.float32]
    missing: int


def score_predictions(
    path: Path,
    expressions: Sequence[Expression],
    images: Sequence[ImageRow],
    names: ImageNames,
) -> ReferenceScores:
    """Score a file of predictions.

    Parameters
    ----------
    path : path
        JSON lines with ``image``, ``expression`` and ``bbox`` (``x, y, width, height``, in pixels
        of the image that the file of expressions is about); ``bbox_xywh`` and ``bbox_xyxy`` are
        accepted too.
    expressions : sequence of n Expression
        As they are in their file.
    images : sequence of n ImageRow
        The image of each.
    names : ImageNames
        The images of the index, to find those that the file names.

    Raises
    ------
    ExpressionError
        If the file cannot be read, all its boxes are from 0 to 1, or no line of it is about one of
        the expressions.
    """
    predicted = _read(path, names)
    boxes = [
        predicted.get((image.shard, image.row, expression.phrase.casefold()))
        for expression, image in zip(expressions, images, strict=True)
    ]
    missing = boxes.count(None)
    if missing == len(boxes):
        raise ExpressionError(
            f"no line of {path} is about an evaluated expression; each line needs the image, "
            "the expression as in the refs, and a bbox (x, y, width, height)"
        )
    overlaps = [
        float(pairwise_iou([box], [expression.box])[0, 0]) if box else 0.0
        for box, expression in zip(boxes, expressions, strict=True)
    ]
    return ReferenceScores(np.array(overlaps, np.float32), missing)


def _read(path: Path, images: ImageNames) -> dict[tuple[int, int, str], Box]:
    if not path.is_file():
        raise ExpressionError(f"there is no file of predictions at {path}")
    found: dict[tuple[int, int, str], Box] = {}
    for record in read_jsonl(path):
        values = dict(record.values)
        if values.get("bbox_xywh") is None:
            values["bbox_xywh"] = values.get("bbox")
        box, place = parse_box(values), _one_image(images, values.get("image"))
        phrase = _phrase(values.get("expression"))
        if box is not None and place is not None and phrase is not None:
            found.setdefault((*place, phrase.casefold()), box)
    if found and all(map(is_normalized, found.values())):
        raise ExpressionError(f"the boxes of {path} are from 0 to 1; write them in pixels")
    return found


def _phrase(value: object) -> str | None:
    try:
        return clean_phrase(value) if isinstance(value, str) else None
    except PhraseError:  # it is empty
        return None


def _one_image(images: ImageNames, name: object) -> tuple[int, int] | None:
    found: Iterable[ImageRow] = images.find(name) if isinstance(name, str) else ()
    places = {(image.shard, image.row) for image in found}
    return places.pop() if len(places) == 1 else None
