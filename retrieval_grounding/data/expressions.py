"""Referring expressions, and reading them from files in every supported format."""

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
from .entities import is_entities, read_entities
from .readers import read_csv, read_jsonl
from .records import Record
from .refer import find_refs, read_refer

__all__ = [
    "Expression",
    "ExpressionSet",
    "clipped_box",
    "is_normalized",
    "parse_box",
    "read_expressions",
]


_MAX_COORDINATE = 1e6  # pixels; beyond any image, and float32 is still exact to 1/16
_MAX_FRACTION = 1.01  # boxes from 0 to 1, which rounding may exceed


@dataclass(frozen=True)
class Expression:
    """A phrase and the box that it refers to.

    Parameters
    ----------
    image : str
        Name or path of the image, as in the file.
    phrase : str
        Without control characters and repeated spaces.
    box : tuple of 4 float
        Corners ``x1, y1, x2, y2`` in pixels of the upright image. The area is positive, and the box
        is inside the image if its size is known.
    split, dataset : str
        For example ``"val"`` and ``"refcocog"``; empty if unknown.
    category : str or None
        Class of the object, if known.
    object_id : str
        Identifies the object in the file; empty if unknown.
    image_size : tuple of 2 int, or None
        Width and height of the image that the box was measured in, if known.

    Examples
    --------
    >>> import retrieval_grounding as rg
    >>> expression = rg.Expression("street.jpg", "the red car", (10.0, 20.0, 40.0, 60.0), "val")
    >>> expression.phrase, expression.split, expression.image_size
    ('the red car', 'val', None)
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
    """The expressions of a file, and how many were skipped; iterable, with a length.

    Parameters
    ----------
    source : str
        The file or folder.
    expressions : sequence of Expression
        In the order of the file.
    records : int
        Expressions in the file, including skipped ones.
    skipped : Counter of str
        Number of skipped expressions, by reason.

    Examples
    --------
    >>> from collections import Counter
    >>> import retrieval_grounding as rg
    >>> car = rg.Expression("street.jpg", "the red car", (10.0, 20.0, 40.0, 60.0))
    >>> found = rg.ExpressionSet("refs.jsonl", [car], 3, Counter({"bad-box": 2}))
    >>> print(found)
    1 of 3 expressions (2 bad-box)
    >>> len(found), [expression.phrase for expression in found]
    (1, ['the red car'])
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
        text = f"{len(self)} of {self.records} expressions"
        if not self.skipped:
            return text
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())
        return f"{text} ({reasons})"


def read_expressions(
    source: PathLike,
    *,
    splits: Sequence[str] | None = None,
    first_sentence_only: bool = False,
    one_object_per_image: bool = False,
) -> ExpressionSet:
    r"""Read referring expressions from a file whose name tells its format.

    A line of a ``.jsonl`` file is an object with ``image``, ``expression``, and a box: either
    ``bbox_xyxy`` or ``bbox_xywh``, in pixels. The first line of a ``.csv`` file names the columns
    ``image``, ``expression``, and either ``x1, y1, x2, y2`` or ``x, y, w, h``. Both may have
    ``split``, ``dataset``, ``category``, ``object_id``, ``width`` and ``height``.

    Parameters
    ----------
    source : path
        A ``.jsonl``, ``.jsonl.gz`` or ``.csv`` file; a ``refs(...).p`` of the REFER layout, with
        ``instances.json`` beside it; a folder that holds these two; or the folder of Flickr30k
        Entities, with ``Annotations`` and ``Sentences``.
    splits : sequence of str, optional
        Splits to read, such as ``["val"]``; all by default.
    first_sentence_only : bool
        Read only the first expression for each object.
    one_object_per_image : bool
        Read only expressions for the first object of each image.

    Returns
    -------
    ExpressionSet
        Skipped expressions are counted by reason: ``other-split``, ``later-sentence``,
        ``other-object``, or the problem of a record, such as ``bad-box``, or ``normalized-box`` for
        a box from 0 to 1, which must be in pixels.

    Raises
    ------
    ExpressionError
        If the file is missing, damaged or of an unknown format, if a split does not exist, or if
        the file has no usable expression.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> import retrieval_grounding as rg
    >>> records = [
    ...     {"image": "a.jpg", "expression": "the red car", "bbox_xywh": [10, 20, 30, 40]},
    ...     {"image": "a.jpg", "expression": "no box", "bbox_xywh": [10, 20, 0, 0]},
    ... ]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "refs.jsonl"
    ...     _ = path.write_text("".join(json.dumps(record) + "\n" for record in records))
    ...     found = rg.read_expressions(path)
    >>> print(found)
    1 of 2 expressions (1 bad-box)
    >>> found.expressions[0].box
    (10.0, 20.0, 40.0, 60.0)
    """
    path = Path(source)
    skipped: Counter[str] = Counter()
    first_problem = ""
    found: list[Expression] = []
    records = 0
    for record in _read(path):
        records += 1
        try:
            found.append(_to_expression(record))
        except _BadRecordError as error:
            skipped[error.reason] += 1
            first_problem = first_problem or f"{record.location}: {error.reason}"
    if not found:
        advice = "; boxes must be in pixels, not from 0 to 1" if skipped["normalized-box"] else ""
        raise ExpressionError(
            f"{path} has no usable expression ({first_problem or 'it is empty'}){advice}"
        )
    kept = _of_splits(found, splits, path)
    skipped["other-split"] += len(found) - len(kept)
    if first_sentence_only:
        before, kept = len(kept), _first_sentences(kept)
        skipped["later-sentence"] += before - len(kept)
    if one_object_per_image:
        before, kept = len(kept), _first_objects(kept)
        skipped["other-object"] += before - len(kept)
    skipped += Counter()  # drops the reasons that did not occur
    return ExpressionSet(os.fspath(source), kept, records, skipped)


def _read(path: Path) -> Iterator[Record]:
    name = path.name.lower()
    if path.is_dir():
        return read_entities(path) if is_entities(path) else read_refer(find_refs(path))
    if not path.is_file():
        raise ExpressionError(f"the file of expressions {path} does not exist")
    if name.endswith((".jsonl", ".jsonl.gz")):
        return read_jsonl(path)
    if name.endswith(".csv"):
        return read_csv(path)
    if name.endswith(".p"):
        return read_refer(path)
    raise ExpressionError(
        f"{path} is not in a supported format; name a .jsonl, .jsonl.gz or .csv file, or a folder "
        "in the layout of REFER or of Flickr30k Entities"
    )


class _BadRecordError(Exception):
    """A record that cannot be used, with a short, fixed reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _to_expression(record: Record) -> Expression:
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
    if is_normalized(box):
        raise _BadRecordError("normalized-box")
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
    """Return the box of a record as corners, or None without a box of positive area.

    ``bbox_xyxy`` comes before ``bbox_xywh``; null counts as missing.

    Examples
    --------
    >>> parse_box({"bbox_xywh": [10, 20, 30, 40]})
    (10.0, 20.0, 40.0, 60.0)
    >>> parse_box({"bbox_xywh": [10, 20, 0, 40]}) is None
    True
    """
    corners = values.get("bbox_xyxy")
    given = values.get("bbox_xywh") if corners is None else corners
    if not isinstance(given, (list, tuple)) or len(given) != 4:
        return None
    if not all(_is_number(value) for value in given):
        return None
    x, y, right, bottom = (float(value) for value in given)
    if corners is None:
        right, bottom = x + right, y + bottom
    return (x, y, right, bottom) if right > x and bottom > y else None


def is_normalized(box: Box) -> bool:
    """Return whether a box is in fractions of the image's sides rather than in pixels.

    Examples
    --------
    >>> is_normalized((0.1, 0.2, 0.5, 1.0)), is_normalized((0.0, 0.0, 3.0, 2.0))
    (True, False)
    """
    return max(map(abs, box)) <= _MAX_FRACTION


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
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) <= _MAX_COORDINATE
    )


def _image_size(width: Any, height: Any) -> tuple[int, int] | None:
    if width is None and height is None:
        return None
    sides = (width, height)
    if not all(_is_number(side) and side >= 1 and side == int(side) for side in sides):
        raise _BadRecordError("bad-image-size")
    return int(width), int(height)


def _text(value: Any) -> str:
    """Return names and numbers as text; anything else counts as missing."""
    known = isinstance(value, (str, int)) and not isinstance(value, bool)
    return str(value) if known else ""


def _of_splits(
    expressions: list[Expression], splits: Sequence[str] | None, path: Path
) -> list[Expression]:
    if splits is None:
        return expressions
    wanted = {splits} if isinstance(splits, str) else set(splits)
    existing = dict.fromkeys(expression.split for expression in expressions)
    if missing := sorted(wanted - set(existing)):
        names = ", ".join(name or "(none)" for name in existing)
        raise ExpressionError(f"{path} has no split {', '.join(missing)}; it has {names}")
    return [expression for expression in expressions if expression.split in wanted]


def _first_sentences(expressions: list[Expression]) -> list[Expression]:
    # Objects are identified by their boxes: not all files have ids, or unique ones.
    firsts: dict[tuple[str, Box], Expression] = {}
    for expression in expressions:
        firsts.setdefault((expression.image, expression.box), expression)
    return list(firsts.values())


def _first_objects(expressions: list[Expression]) -> list[Expression]:
    first_boxes: dict[str, Box] = {}
    for expression in expressions:
        first_boxes.setdefault(expression.image, expression.box)
    return [e for e in expressions if e.box == first_boxes[e.image]]
