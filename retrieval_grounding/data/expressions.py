"""Referring expressions: the value, and reading files of them in any of their forms."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ExpressionError, PhraseError
from ..core.phrases import clean_phrase
from ..core.types import Box, PathLike
from .readers import read_csv, read_jsonl
from .records import Record
from .refer import find_refs, read_refer

__all__ = ["Expression", "ExpressionSet", "clipped_box", "parse_box", "read_expressions"]


_LARGEST = 1e6  # pixels; no photograph is larger, and float32 still resolves a sixteenth there


@dataclass(frozen=True)
class Expression:
    """A phrase and the box that it means.

    Parameters
    ----------
    image : str
        Name or path of the image, as its file has it.
    phrase : str
        As :func:`retrieval_grounding.core.phrases.clean_phrase` returns it.
    box : tuple of 4 float
        Corners ``x1, y1, x2, y2`` in pixels of the upright image, with a positive area, and
        inside the image where its size is known.
    split, dataset : str
        Such as ``"val"`` and ``"refcocog"``; empty if unknown.
    category : str or None
        Class of the object, if the file has it.
    object_id : str
        The file's name of the object; empty if it has none.
    image_size : tuple of 2 int, or None
        Width and height in whose pixels the box is given, if the file has them.
    """

    image: str
    phrase: str
    box: Box
    split: str = ""
    dataset: str = ""
    category: str | None = None
    object_id: str = ""
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class ExpressionSet:
    """What was read from a file of expressions.

    Parameters
    ----------
    source : str
        The file.
    expressions : sequence of Expression
        In the order of the file.
    records : int
        Expressions in the file, whether they were taken or not.
    skipped : Counter of str
        How many were not taken, by reason.
    """

    source: str
    expressions: Sequence[Expression]
    records: int
    skipped: Counter[str]

    def __len__(self) -> int:
        """Return the number of expressions."""
        return len(self.expressions)

    def __iter__(self) -> Iterator[Expression]:
        return iter(self.expressions)

    def __str__(self) -> str:
        left_out = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())
        return f"{len(self)} of {self.records} expressions" + (left_out and f" ({left_out})")


def read_expressions(
    source: PathLike,
    *,
    splits: Sequence[str] | None = None,
    first_sentence_only: bool = False,
    one_object_per_image: bool = False,
) -> ExpressionSet:
    """Read referring expressions; the form follows from the name.

    Parameters
    ----------
    source : path
        A ``.jsonl`` or ``.jsonl.gz`` file, a ``.csv`` file, a ``refs(...).p`` of the REFER layout,
        which needs ``instances.json`` beside it, or a folder that holds these two.
    splits : sequence of str, optional
        Take only these, such as ``["val"]``.
    first_sentence_only : bool
        Of several expressions for one object, take only the first in the file.
    one_object_per_image : bool
        Of each image, take only the object that comes first in the file.

    Returns
    -------
    ExpressionSet
        With counts of what was not taken and why: ``other-split``, ``later-sentence``,
        ``other-object``, or what is wrong with a record, such as ``bad-box``.

    Raises
    ------
    ExpressionError
        If the file is missing, of no known form, or damaged, or if nothing of it can be used.
    """
    path = Path(source)
    skipped: Counter[str] = Counter()
    first_problem = ""
    found: list[Expression] = []
    records = 0
    for record in _read(path):
        records += 1
        try:
            found.append(_checked(record))
        except _BadRecordError as error:
            skipped[error.reason] += 1
            first_problem = first_problem or f"{record.place}: {error.reason}"
    if not found:
        raise ExpressionError(f"{path} has no usable expression ({first_problem or 'it is empty'})")
    taken = _of_splits(found, splits, path)
    skipped["other-split"] += len(found) - len(taken)
    if first_sentence_only:
        before, taken = len(taken), _first_sentences(taken)
        skipped["later-sentence"] += before - len(taken)
    if one_object_per_image:
        before, taken = len(taken), _first_objects(taken)
        skipped["other-object"] += before - len(taken)
    return ExpressionSet(os.fspath(source), taken, records, +skipped)


def _read(path: Path) -> Iterator[Record]:
    name = path.name.lower()
    if path.is_dir():
        return read_refer(find_refs(path))
    if not path.is_file():
        raise ExpressionError(f"there is no file of expressions {path}")
    if name.endswith((".jsonl", ".jsonl.gz")):
        return read_jsonl(path)
    if name.endswith(".csv"):
        return read_csv(path)
    if name.endswith(".p"):
        return read_refer(path)
    raise ExpressionError(
        f"{path} is of no known form; name a .jsonl, .jsonl.gz or .csv file, or a folder of the "
        "REFER layout"
    )


class _BadRecordError(Exception):
    """A record that cannot be used, with a short, fixed reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _checked(record: Record) -> Expression:
    if record.problem:
        raise _BadRecordError(record.problem)
    values = record.values
    image = values.get("image")
    if not isinstance(image, str) or not image.strip() or "\0" in image:
        raise _BadRecordError("no-image-name")
    try:
        phrase = clean_phrase(values.get("expression"))  # type: ignore[arg-type]
    except PhraseError as error:
        raise _BadRecordError("no-expression") from error
    size = _image_size(values.get("width"), values.get("height"))
    box = parse_box(values)
    if box is None:
        raise _BadRecordError("bad-box")
    inside = clipped_box(box, size)
    if inside is None:
        raise _BadRecordError("box-outside-image")
    return Expression(
        image=image,
        phrase=phrase,
        box=inside,
        split=_text(values.get("split")),
        dataset=_text(values.get("dataset")),
        category=_text(values.get("category")) or None,
        object_id=_text(values.get("object_id")),
        image_size=size,
    )


def parse_box(values: Any) -> Box | None:
    """Return the box of a record as corners, or None if it has none with a positive area.

    Examples
    --------
    >>> parse_box({"bbox_xywh": [10, 20, 30, 40]})
    (10.0, 20.0, 40.0, 60.0)
    >>> parse_box({"bbox_xywh": [10, 20, 0, 40]}) is None
    True
    """
    given = values.get("bbox_xyxy", values.get("bbox_xywh"))
    if not isinstance(given, (list, tuple)) or len(given) != 4:
        return None
    if not all(_is_number(value) for value in given):
        return None
    x, y, right, bottom = (float(value) for value in given)
    if "bbox_xyxy" not in values:
        right, bottom = x + right, y + bottom
    return (x, y, right, bottom) if right > x and bottom > y else None


def clipped_box(box: Box, size: tuple[int, int] | None) -> Box | None:
    """Return the part of a box inside an image, or None if there is none.

    Examples
    --------
    >>> clipped_box((-5.0, 10.0, 50.0, 60.0), (40, 100))
    (0.0, 10.0, 40.0, 60.0)
    """
    width, height = size or (math.inf, math.inf)
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = float(min(box[2], width)), float(min(box[3], height))
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST
    )


def _image_size(width: Any, height: Any) -> tuple[int, int] | None:
    if width is None and height is None:
        return None
    sides = (width, height)
    if not all(_is_number(side) and side >= 1 and side == int(side) for side in sides):
        raise _BadRecordError("bad-image-size")
    return int(width), int(height)


def _text(value: Any) -> str:
    """Return names and numbers as text; anything else is as good as not there."""
    known = isinstance(value, (str, int)) and not isinstance(value, bool)
    return str(value) if known else ""


def _of_splits(
    expressions: list[Expression], splits: Sequence[str] | None, path: Path
) -> list[Expression]:
    if splits is None:
        return expressions
    wanted = {splits} if isinstance(splits, str) else set(splits)
    there = dict.fromkeys(expression.split for expression in expressions)
    if missing := sorted(wanted - set(there)):
        names = ", ".join(name or "(none)" for name in there)
        raise ExpressionError(f"{path} has no split {', '.join(missing)}; it has {names}")
    return [expression for expression in expressions if expression.split in wanted]


def _first_sentences(expressions: list[Expression]) -> list[Expression]:
    # An object is its box: files number objects by image, by data set, or not at all.
    firsts: dict[tuple[str, Box], Expression] = {}
    for expression in expressions:
        firsts.setdefault((expression.image, expression.box), expression)
    return list(firsts.values())


def _first_objects(expressions: list[Expression]) -> list[Expression]:
    firsts: dict[str, Box] = {}
    return [
        expression
        for expression in expressions
        if firsts.setdefault(expression.image, expression.box) == expression.box
    ]
