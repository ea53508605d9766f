"""The images with their boxes, decoded once and kept small in the run's folder."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...core.errors import ExpressionError
from ...core.interrupt import graceful_interrupt
from ...core.progress import progress_bar
from ...core.regions import pairwise_iou
from ...core.text import counted
from ...data.expressions import Expression
from ...data.prefetch import LoadedImage, read_ahead
from ...data.resolve import ImageNames, resolve_images
from ...storage.files import atomic_write_bytes
from ...storage.rows import ImageRow
from ..run_folder import RunFolder

__all__ = ["BoxedImage", "Sets", "split_images", "store_images"]

FloatArray = npt.NDArray[np.float32]

_STATE = "images"
_SAME_BOX = 0.9
_JPEG_QUALITY = 95
_IMAGES_PER_SAVE = 64
_HELD_OUT_SHARE = 0.2
_MOST_HELD_OUT = 500
_FEWEST = 4


@dataclass(frozen=True)
class BoxedImage:
    """A picture in the run's folder and the boxes that people referred to.

    Parameters
    ----------
    content_hash : str
        Of the file that it is a copy of; the name of the copy.
    size : tuple of 2 int
        Width and height of the copy in pixels.
    boxes : float32 array of shape (n, 4)
        Corners in pixels of the copy; a box that was referred to several times appears once.
    categories : tuple of n str
        Their categories; empty if unknown.
    split : str
        Split of the expressions, empty if unknown.
    """

    content_hash: str
    size: tuple[int, int]
    boxes: FloatArray
    categories: tuple[str, ...]
    split: str

    def file(self, run: RunFolder) -> Path:
        """Return the path of the copy."""
        return run.path / "images" / f"{self.content_hash}.jpg"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "content_hash": self.content_hash,
            "size": list(self.size),
            "boxes": self.boxes.tolist(),
            "categories": list(self.categories),
            "split": self.split,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BoxedImage:
        """Return what :meth:`as_dict` has made plain."""
        return cls(
            values["content_hash"],
            (values["size"][0], values["size"][1]),
            np.array(values["boxes"], np.float32).reshape(-1, 4),
            tuple(values["categories"]),
            values["split"],
        )


@dataclass(frozen=True)
class Sets:
    """Images to train with and to measure with; no content is in both."""

    training: list[BoxedImage]
    held_out: list[BoxedImage]

    @property
    def all(self) -> list[BoxedImage]:
        """All images, in this order."""
        return [*self.training, *self.held_out]


def store_images(
    run: RunFolder,
    paths: Sequence[str],
    expressions: Sequence[Expression],
    longest_side: int,
    progress: bool | None,
) -> tuple[list[BoxedImage], Counter[str]]:
    """Decode the images that expressions name, unless already done, and store small copies.

    Ultralytics never sees a file from outside: it would decode, mend and rename by its own rules.

    Parameters
    ----------
    run : RunFolder
        Gets a folder ``images``.
    paths : sequence of str
        Addresses of all images there are.
    expressions : sequence of Expression
        Their boxes are used.
    longest_side : int
        Larger images are scaled down to this many pixels; the detector sees no more.
    progress : bool or None
        As in :class:`.options.YoloTuningOptions`.

    Returns
    -------
    images : list of BoxedImage
        Each content once.
    skipped : Counter of str
        Images and boxes that cannot be used, by reason.
    """
    names = ImageNames(ImageRow(path, 1, 1, n, 0, path) for n, path in enumerate(paths))
    about: dict[str, list[Expression]] = {}
    skipped: Counter[str] = Counter()
    for expression in expressions:
        found = {row.path for row in names.find(expression.image)}
        if len(found) == 1:
            about.setdefault(found.pop(), []).append(expression)
        else:
            skipped["ambiguous-name" if found else "image-not-found"] += 1
    state = run.load_json(_STATE) or {"done": 0, "images": [], "skipped": {}}
    images: dict[str, BoxedImage] = {
        values["content_hash"]: BoxedImage.from_dict(values) for values in state["images"]
    }
    skipped_images: Counter[str] = Counter(state["skipped"])
    (run.path / "images").mkdir(exist_ok=True)
    done, todo = int(state["done"]), list(about)[int(state["done"]) :]
    with (
        graceful_interrupt() as stopping,
        progress_bar("Reading images", len(todo), "images", progress) as advance,
        closing(read_ahead(todo, (), 2)) as files,
    ):
        for path, file in zip(todo, files, strict=True):
            if not isinstance(file, LoadedImage) or file.image is None:
                skipped_images[str(getattr(file, "reason", "unreadable"))] += 1
            elif file.content_hash in images:
                skipped_images["duplicate"] += 1
            else:
                made, problems = _boxed(file, about[path], longest_side)
                skipped_images.update(problems)
                if made is not None:
                    copy, boxed = made
                    atomic_write_bytes(boxed.file(run), copy)
                    images[boxed.content_hash] = boxed
            done += 1
            advance(1)
            if done % _IMAGES_PER_SAVE == 0 or done == len(about) or stopping():
                plain = [image.as_dict() for image in images.values()]
                run.save_json(
                    _STATE, {"done": done, "images": plain, "skipped": dict(skipped_images)}
                )
            if stopping():
                raise KeyboardInterrupt
    return list(images.values()), skipped + skipped_images


def _boxed(
    file: LoadedImage, expressions: Sequence[Expression], longest_side: int
) -> tuple[tuple[bytes, BoxedImage] | None, Counter[str]]:
    """Return a small copy and its boxes, or None if no box fits, and why boxes do not."""
    assert file.image is not None
    width, height = file.image.size
    row = ImageRow(expressions[0].image, width, height, 0, 0, file.content_hash)
    resolved = resolve_images(expressions, [row])
    if not resolved.pairs:
        return None, resolved.skipped
    scale = min(1.0, longest_side / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    factors = np.array([size[0] / width, size[1] / height] * 2)
    boxes: list[FloatArray] = []
    categories: list[str] = []
    for expression, _ in resolved.pairs:
        box = (np.array(expression.box) * factors).astype(np.float32)
        category = (expression.category or "").lower()
        if boxes and (near := pairwise_iou(box[None], boxes)[0]).max() >= _SAME_BOX:
            categories[int(near.argmax())] = categories[int(near.argmax())] or category
            continue
        boxes.append(box)
        categories.append(category)
    small = file.image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    splits = Counter(expression.split for expression, _ in resolved.pairs)
    boxed = BoxedImage(
        file.content_hash, size, np.stack(boxes), tuple(categories), splits.most_common(1)[0][0]
    )
    return (data.getvalue(), boxed), resolved.skipped


def split_images(images: Sequence[BoxedImage], seed: int, held_out: Collection[str] = ()) -> Sets:
    """Hold out images: those of some splits, else a fifth of them, at most 500.

    Raises
    ------
    ExpressionError
        If too few images are left for one of the sets.
    """

    def draw(image: BoxedImage) -> bytes:
        return blake2b(f"{seed} {image.content_hash}".encode()).digest()

    order = sorted(images, key=draw)  # an image's place does not depend on which others there are
    if held_out:
        apart = [image for image in order if image.split in held_out]
        training = [image for image in order if image.split not in held_out]
    else:
        count = min(max(2, round(_HELD_OUT_SHARE * len(order))), _MOST_HELD_OUT)
        apart, training = order[:count], order[count:]
    if len(apart) < _FEWEST // 2 or len(training) < _FEWEST // 2:
        raise ExpressionError(
            f"the boxes are on {counted(len(images), 'image')}, too few to train with some and "
            "hold out others; add boxes on other images"
        )
    return Sets(training, apart)
