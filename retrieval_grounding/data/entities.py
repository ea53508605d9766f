"""Reading Flickr30k Entities: boxes in ``Annotations/*.xml``, phrases in ``Sentences/*.txt``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ExpressionError
from .records import Record

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["is_entities", "read_entities"]

_DATASET = "flickr30k_entities"
_SPLITS = ("train", "val", "test")
_NOT_VISUAL = "0"  # the chain of phrases such as "the background", which nobody annotated
_MAX_BYTES = 1 << 20  # the largest published file has 13 kB
_PHRASE = re.compile(r"\[/EN#([^/\s\]]+)((?:/[^/\s\]]+)*)\s+([^\[\]]+?)\s*\]")
"""``[/EN#283585/people Two young guys]``: chain, types, words."""


@dataclass
class _Annotation:
    """The boxes of one image: corners by chain, and what has none."""

    width: Any = None
    height: Any = None
    boxes: dict[str, list[tuple[int, int, int, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )


class _DamagedError(Exception):
    """A file that is not what it should be, with a short, fixed reason."""


def is_entities(folder: Path) -> bool:
    """Return whether a folder has the layout of Flickr30k Entities."""
    return (folder / "Annotations").is_dir() and (folder / "Sentences").is_dir()


def read_entities(folder: Path) -> Iterator[Record]:
    """Yield one record for each annotated phrase of each caption.

    Phrases with several boxes ("two men") refer to the box around all of them. Phrases without a
    box (a scene, or something that cannot be seen) are records with the problem ``no-box``. The
    images of a split are listed in ``train.txt``, ``val.txt`` and ``test.txt``; other images belong
    to no split.

    Parameters
    ----------
    folder : Path
        Has ``Annotations`` with one ``ID.xml`` for each image, ``Sentences`` with ``ID.txt``, and
        the lists of the splits.

    Raises
    ------
    ExpressionError
        If the folder or a list of a split cannot be read.
    """
    splits = _read_splits(folder)
    try:
        names = sorted(path.stem for path in (folder / "Sentences").glob("*.txt"))
    except OSError as error:
        raise ExpressionError(f"{folder} cannot be read: {error.strerror}") from error
    for name in names:
        try:
            annotation = _read_annotation(folder / "Annotations" / f"{name}.xml")
            captions = _read_text(folder / "Sentences" / f"{name}.txt").split("\n")
        except _DamagedError as damage:
            yield Record(f"image {name}", problem=str(damage))
            continue
        for number, caption in enumerate(captions, start=1):
            for found in _PHRASE.finditer(caption):
                chain, types, phrase = found.groups()
                place = f"image {name}, caption {number}"
                values = {
                    "image": f"{name}.jpg",
                    "expression": phrase,
                    "width": annotation.width,
                    "height": annotation.height,
                    "split": splits.get(name, ""),
                    "dataset": _DATASET,
                    "category": types.strip("/").split("/")[0] or None,
                    "object_id": f"{name}_{chain}",
                }
                boxes = () if chain == _NOT_VISUAL else annotation.boxes.get(chain, ())
                if boxes:
                    yield Record(place, values | {"bbox_xyxy": _around(boxes)})
                else:
                    yield Record(place, values, problem="no-box")


def _read_splits(folder: Path) -> Mapping[str, str]:
    """Return the split of each image that one of the lists names."""
    splits: dict[str, str] = {}
    for split in _SPLITS:
        path = folder / f"{split}.txt"
        if path.exists():
            try:
                splits |= dict.fromkeys(_read_text(path).split(), split)
            except _DamagedError as error:
                raise ExpressionError(f"{path} cannot be read ({error})") from error
    return splits


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise _DamagedError("file-missing") from error
    except OSError as error:
        raise _DamagedError("unreadable-file") from error
    if len(data) > _MAX_BYTES:
        raise _DamagedError("file-too-large")
    return data.decode("utf-8", "replace")


def _read_annotation(path: Path) -> _Annotation:
    """Read the boxes of an image; the file may declare no document type and no entities."""
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root = fromstring(_read_text(path), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, RecursionError) as error:
        raise _DamagedError("bad-xml") from error
    size = root.find("size")
    found = _Annotation()
    if size is not None:
        found.width, found.height = _number(size, "width"), _number(size, "height")
    for thing in root.iterfind("object"):
        chains = [name.text.strip() for name in thing.iterfind("name") if name.text]
        for box in thing.iterfind("bndbox"):
            corners = [_number(box, key) for key in ("xmin", "ymin", "xmax", "ymax")]
            if any(corner is None for corner in corners):
                raise _DamagedError("bad-box")
            left, top, right, bottom = (corner for corner in corners if corner is not None)
            for chain in chains:
                # Pixels are counted from 1, and the last one belongs to the box.
                found.boxes[chain].append((left - 1, top - 1, right, bottom))
    return found


def _number(parent: Element, name: str) -> int | None:
    text = (parent.findtext(name) or "").strip()
    return int(text) if re.fullmatch(r"-?[0-9]{1,7}", text) else None


def _around(boxes: Sequence[tuple[int, int, int, int]]) -> list[int]:
    """Return the corners of the box around all boxes."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return [min(lefts), min(tops), max(rights), max(bottoms)]
