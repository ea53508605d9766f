"""Reading the REFER layout: ``refs(umd).p`` with sentences, ``instances.json`` with boxes."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ..core.errors import ExpressionError
from .records import Record

__all__ = ["find_refs", "load_plain_pickle", "read_refer"]


class _PlainUnpickler(pickle._Unpickler):  # type: ignore[name-defined,misc,unused-ignore]
    """Builds plain containers, strings and numbers only; refuses everything that needs a class.

    This is the pure Python unpickler, because the one in C allocates a table of whatever size a
    damaged file claims, up to tens of gigabytes.
    """

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it needs {module}.{name}")


def load_plain_pickle(path: Path) -> Any:
    """Return the content of a pickle, which may be plain containers, strings and numbers only.

    Nothing in the file can import or call code. Byte strings of Python 2 are decoded as Latin-1.

    Raises
    ------
    ExpressionError
        If the file cannot be read, is damaged, or needs a class.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ExpressionError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # unpicklers raise almost any error on damaged bytes
        raise ExpressionError(
            f"{path} is not a pickle of plain containers, strings and numbers "
            f"({error or type(error).__name__})"
        ) from error


def find_refs(folder: Path) -> Path:
    """Return the only ``refs(...).p`` in a folder of the REFER layout.

    Raises
    ------
    ExpressionError
        If there are none or several.
    """
    found = sorted(folder.glob("refs(*).p"))
    if len(found) == 1:
        return found[0]
    if found:
        raise ExpressionError(
            f"{folder} has {len(found)} sets of splits; name one of "
            f"{', '.join(str(path) for path in found)}"
        )
    raise ExpressionError(
        f"{folder} has no refs(...).p; name a folder of the REFER layout, a .jsonl or a .csv file"
    )


def read_refer(path: Path) -> Iterator[Record]:
    """Yield one record for each sentence in ``refs(...).p``, with its box in ``instances.json``.

    Raises
    ------
    ExpressionError
        If one of the two files cannot be read.
    """
    refs = load_plain_pickle(path)
    if not isinstance(refs, list):
        raise ExpressionError(f"{path} does not hold a list of references")
    instances = _load_instances(path.with_name("instances.json"))
    images, annotations, categories = (
        _by_id(instances.get(key)) for key in ("images", "annotations", "categories")
    )
    for number, ref in enumerate(refs):
        place = f"reference {number}"
        if not isinstance(ref, dict):
            yield Record(place, problem="not-a-reference")
            continue
        annotation = _lookup(annotations, ref.get("ann_id"))
        if annotation is None:
            yield Record(place, problem="no-annotation")
            continue
        image = _lookup(images, annotation.get("image_id", ref.get("image_id"))) or {}
        category = _lookup(categories, annotation.get("category_id")) or {}
        common = {
            "image": image.get("file_name", ref.get("file_name")),
            "bbox_xywh": annotation.get("bbox"),
            "width": image.get("width"),
            "height": image.get("height"),
            "split": ref.get("split"),
            "dataset": path.parent.name,
            "category": category.get("name"),
            "object_id": ref.get("ann_id"),
        }
        sentences = ref.get("sentences")
        if not isinstance(sentences, list) or not sentences:
            yield Record(place, problem="no-sentence")
            continue
        for sentence in sentences:
            known = sentence if isinstance(sentence, dict) else {}
            yield Record(place, common | {"expression": known.get("sent") or known.get("raw")})


def _load_instances(path: Path) -> dict[str, Any]:
    try:
        instances = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ExpressionError(
            f"{path} is missing; the REFER layout needs it beside refs(...).p"
        ) from error
    except OSError as error:
        raise ExpressionError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ExpressionError(f"{path} is not JSON: {error}") from error
    if not isinstance(instances, dict):
        raise ExpressionError(f"{path} has no images and annotations")
    return instances


def _by_id(rows: Any) -> dict[int | str, dict[str, Any]]:
    known = rows if isinstance(rows, list) else []
    return {
        row["id"]: row
        for row in known
        if isinstance(row, dict) and isinstance(row.get("id"), (int, str))
    }


def _lookup(table: dict[int | str, dict[str, Any]], key: Any) -> dict[str, Any] | None:
    return table.get(key) if isinstance(key, (int, str)) else None
