"""Pictures of hits as files: crops, and a data set in the format of YOLO."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ...core.errors import ImageError
from ...core.hits import Hit
from ...core.reports import SkippedFile
from ...core.strict_json import json_text
from ...core.types import PathLike
from ...data.images import load_image
from .classes import by_image, phrases_of
from .folders import file_name, new_folder

__all__ = ["save_crops", "save_yolo"]

_QUALITY = 95
_LARGEST_SIDE = 65_500  # of a JPEG


def save_crops(hits: Sequence[Hit], folder: PathLike) -> list[SkippedFile]:
    """Write the region of each hit as a JPEG, in a folder for each phrase, best first.

    Parameters, results and errors are those of :meth:`.Hits.save_crops`.
    """
    skipped: list[SkippedFile] = []
    ranks: Counter[str] = Counter()
    names: dict[str, list[str]] = {}  # of the crops, by photograph
    for hit in hits:
        place = file_name(hit.phrase)
        ranks[place.casefold()] += 1
        name = f"{place}/{ranks[place.casefold()]:03d} {file_name(Path(hit.image).stem)}.jpg"
        names.setdefault(hit.image, []).append(name)
    with new_folder(folder) as write:
        for path, own in by_image(hits).items():
            image = _photograph(own[0], skipped)
            if image is not None:
                for name, hit in zip(names[path], own, strict=True):
                    write(name, _jpeg(image.crop(_pixels(hit, image.size))))
    return skipped


def save_yolo(hits: Sequence[Hit], folder: PathLike) -> list[SkippedFile]:
    """Write hits as a data set that ultralytics trains on: photographs, labels, ``data.yaml``.

    The phrases are the classes. Photographs are copied as upright JPEGs, without metadata.

    Parameters, results and errors are those of :meth:`.Hits.save_crops`.
    """
    skipped: list[SkippedFile] = []
    phrases = phrases_of(hits)
    used: Counter[str] = Counter()
    with new_folder(folder) as write:
        for path, own in by_image(hits).items():
            image = _photograph(own[0], skipped)
            if image is None:
                continue
            stem = file_name(Path(path).stem)
            used[stem.casefold()] += 1
            number = used[stem.casefold()]
            name = stem if number == 1 else f"{stem} ({number})"
            write(f"images/{name}.jpg", _jpeg(image))
            lines = [_yolo_line(hit, phrases, image.size) for hit in own]
            write(f"labels/{name}.txt", "".join(lines).encode())
        names = json_text(phrases, ensure_ascii=True)  # JSON is YAML
        write("data.yaml", f"train: images\nval: images\nnames: {names}\n".encode())
    return skipped


def _photograph(hit: Hit, skipped: list[SkippedFile]) -> Image.Image | None:
    try:
        return load_image(hit.image, hit.content_hash)
    except ImageError as error:
        skipped.append(SkippedFile(hit.image, error.reason, error.detail))
        return None


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    if max(image.size) > _LARGEST_SIDE:
        image = image.copy()
        image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _pixels(hit: Hit, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the box of a hit in whole pixels: inside the image, and at least one pixel large."""
    left = min(max(0, int(hit.box[0])), size[0] - 1)
    top = min(max(0, int(hit.box[1])), size[1] - 1)
    right = min(max(left + 1, round(hit.box[2])), size[0])
    bottom = min(max(top + 1, round(hit.box[3])), size[1])
    return left, top, right, bottom


def _yolo_line(hit: Hit, phrases: Sequence[str], size: tuple[int, int]) -> str:
    """Return class, center and size of a box as shares of the photograph."""
    (x1, y1, x2, y2), (width, height) = hit.box, size
    shares = (
        (x1 + x2) / 2 / width,
        (y1 + y2) / 2 / height,
        (x2 - x1) / width,
        (y2 - y1) / height,
    )
    return f"{phrases.index(hit.phrase)} " + " ".join(f"{share:.6f}" for share in shares) + "\n"
