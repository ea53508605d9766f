"""Reading boxes from a file in COCO's format."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import ExpressionError
from ..core.strict_json import parse_json
from ..core.types import PathLike
from .expressions import Expression, ExpressionSet, clipped_box, parse_box

__all__ = ["read_coco"]

_MAX_BYTES = 1 << 31


def read_coco(source: PathLike) -> ExpressionSet:
    """Read the boxes of a COCO file of instances, each as an expression that says its category.

    Crowds are left out: their boxes are around many things.

    Parameters
    ----------
    source : path
        A JSON file with ``images`` (``id``, ``file_name``), ``annotations`` (``image_id``,
        ``bbox`` in pixels, ``category_id``) and ``categories`` (``id``, ``name``).

    Raises
    ------
    ExpressionError
        If it is no such file, or has no usable box.
    """
    path = Path(source)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ExpressionError(f"{path} has more than {_MAX_BYTES >> 30} GiB; divide it")
        content = parse_json(path.read_bytes())
    except OSError as error:
        raise ExpressionError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ExpressionError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        content = {}
    images = {entry["id"]: entry for entry in _entries(content, "images")}
    names = {entry["id"]: entry.get("name") for entry in _entries(content, "categories")}
    skipped: Counter[str] = Counter()
    found, annotations = [], list(_objects(content, "annotations"))
    for annotation in annotations:
        made = _to_expression(annotation, images, names)
        if isinstance(made, str):
            skipped[made] += 1
        else:
            found.append(made)
    if not found:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
        raise ExpressionError(
            f"{path} has no usable box ({reasons or 'no annotations'}); name a file of COCO "
            "instances, with images, annotations and categories"
        )
    return ExpressionSet(os.fspath(source), found, len(annotations), skipped)


def _to_expression(
    annotation: dict[str, Any], images: dict[Any, Any], names: dict[Any, Any]
) -> Expression | str:
    """Return an annotation as an expression, or why it cannot be used."""
    image_id = annotation.get("image_id")
    image = images.get(image_id) if isinstance(image_id, (int, str)) else None
    file = image.get("file_name") if image else None
    if image is None or not isinstance(file, str) or not file.strip() or "\0" in file:
        return "no-image-name"
    if annotation.get("iscrowd"):
        return "crowd"
    sides = [image.get("width"), image.get("height")]
    known = all(type(side) is int and side >= 1 for side in sides)
    size = (int(sides[0]), int(sides[1])) if known else None
    box = parse_box({"bbox_xywh": annotation.get("bbox")})
    inside = clipped_box(box, size) if box else None
    if inside is None:
        return "bad-box"
    category_id = annotation.get("category_id")
    name = names.get(category_id) if isinstance(category_id, (int, str)) else None
    category = " ".join(name.split()) if isinstance(name, str) else ""
    return Expression(file, category or "object", inside, "", "coco", category or None, "", size)


def _entries(content: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    for entry in _objects(content, key):
        if isinstance(entry.get("id"), (int, str)):
            yield entry


def _objects(content: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    entries = content.get(key)
    if isinstance(entries, list):
        yield from (entry for entry in entries if isinstance(entry, dict))
