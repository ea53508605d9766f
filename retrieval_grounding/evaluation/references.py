"""Reading predictions of others, to be scored by the same figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.errors import ExpressionError, PhraseError
from ..core.phrases import clean_phrase
from ..core.regions import pairwise_iou
from ..core.types import Box
from ..data.expressions import Expression, parse_box
from ..data.readers import read_jsonl
from ..data.resolve import ImageNames
from ..storage.rows import ImageRow

__all__ = ["score_predictions"]


def score_predictions(
    path: Path,
    expressions: Sequence[Expression],
    images: Sequence[ImageRow],
    names: ImageNames,
) -> tuple[npt.NDArray[np.float32], int]:
    """Return the IoU of a file's predictions, and how many expressions have none.

    Parameters
    ----------
    path : path
        JSON lines with ``image``, ``expression`` and ``bbox`` (``x, y, width, height``, in pixels
        of the image that the expressions' file is about; ``bbox_xywh`` and ``bbox_xyxy`` are taken
        as well).
    expressions : sequence of n Expression
        As their file has them.
    images : sequence of n ImageRow
        The image of each.
    names : ImageNames
        The images of the index, by which the file's names are understood.

    Returns
    -------
    float32 array of shape (n,), int
        IoU 0 where a prediction is missing.

    Raises
    ------
    ExpressionError
        If the file cannot be read or no line of it is about one of the expressions.
    """
    predicted = _read(path, names)
    boxes = [
        predicted.get((image.shard, image.row, expression.phrase.casefold()))
        for expression, image in zip(expressions, images, strict=True)
    ]
    missing = boxes.count(None)
    if missing == len(boxes):
        raise ExpressionError(
            f"no line of {path} is about an expression that is evaluated; each needs the image, "
            "the expression as the refs have it, and a bbox (x, y, width, height)"
        )
    overlaps = [
        float(pairwise_iou([box], [expression.box])[0, 0]) if box else 0.0
        for box, expression in zip(boxes, expressions, strict=True)
    ]
    return np.array(overlaps, np.float32), missing


def _read(path: Path, images: ImageNames) -> dict[tuple[int, int, str], Box]:
    if not path.is_file():
        raise ExpressionError(f"there is no file of predictions {path}")
    found: dict[tuple[int, int, str], Box] = {}
    for record in read_jsonl(path):
        values = dict(record.values)
        values.setdefault("bbox_xywh", values.get("bbox"))
        box, place = parse_box(values), _one_image(images, values.get("image"))
        try:
            phrase = clean_phrase(values.get("expression"))  # type: ignore[arg-type]
        except PhraseError:
            continue
        if box is not None and place is not None:
            found.setdefault((*place, phrase.casefold()), box)
    return found


def _one_image(images: ImageNames, name: object) -> tuple[int, int] | None:
    found: Iterable[ImageRow] = images.find(name) if isinstance(name, str) else ()
    places = {(image.shard, image.row) for image in found}
    return places.pop() if len(places) == 1 else None
