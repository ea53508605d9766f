"""Images with their regions and what people said of them, split into training and held-out ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...core.errors import ExpressionError
from ...core.groups import is_group
from ...core.regions import pairwise_iou
from ...core.text import counted
from ...core.types import Box
from ...data.expressions import Expression
from ...data.resolve import resolve_images
from ...storage.catalog import Catalog
from ...storage.region_store import RegionStore
from ...storage.rows import ImageRow

__all__ = ["DescribedImage", "Sets", "read_described", "split_images"]

FloatArray = npt.NDArray[np.float32]

_SAME_BOX = 0.9
_SAME_REGION = 0.75
_HELD_OUT_SHARE = 0.1
_MOST_HELD_OUT = 500


@dataclass(frozen=True)
class DescribedImage:
    """An image, its regions and its phrases.

    Parameters
    ----------
    path : str
        Its address.
    content_hash : str
        Of the content that the boxes are about.
    boxes : float32 array of shape (n, 4)
        Corners in pixels: the whole image, the `given` boxes of expressions, detections, groups.
    labels : tuple of n str
        The detector's class; empty for boxes of expressions.
    scores : float32 array of shape (n,)
        The detector's confidence; 0 for boxes of expressions.
    given : int
        Number of boxes of expressions.
    phrases : tuple of p str
        What people said.
    targets : float32 array of shape (p, 4)
        The box that each phrase is about.
    captions : tuple of str
        Sentences about the whole image.
    split : str
        Split of its expressions, empty if unknown.
    """

    path: str
    content_hash: str
    boxes: FloatArray
    labels: tuple[str, ...]
    scores: FloatArray
    given: int
    phrases: tuple[str, ...]
    targets: FloatArray
    captions: tuple[str, ...] = ()
    split: str = ""

    @property
    def detected(self) -> npt.NDArray[np.int64]:
        """Rows of single detections, without groups and the whole image."""
        rows = range(1 + self.given, len(self.boxes))
        return np.array([row for row in rows if not is_group(self.labels[row])], np.int64)


@dataclass(frozen=True)
class Sets:
    """Images by what they are for; no content is in two sets.

    Parameters
    ----------
    training : list of DescribedImage
        Weights are fitted to these.
    validation : list of DescribedImage
        These decide how much of the new weights is kept.
    test : list of DescribedImage
        The figures that are reported are measured on these.
    """

    training: list[DescribedImage]
    validation: list[DescribedImage]
    test: list[DescribedImage]

    @property
    def all(self) -> list[DescribedImage]:
        """All images, in this order."""
        return [*self.training, *self.validation, *self.test]


@dataclass
class _Gathered:
    row: ImageRow
    splits: Counter[str] = field(default_factory=Counter)
    phrases: dict[tuple[str, Box], None] = field(default_factory=dict)


def read_described(
    catalog: Catalog,
    expressions: Iterable[Expression],
    max_regions: int,
    captions: Mapping[str, Sequence[str]] | None = None,
) -> tuple[list[DescribedImage], Counter[str]]:
    """Return the images of an index that expressions are about, by content hash.

    Parameters
    ----------
    catalog : Catalog
        Of the index, whose detections become further regions.
    expressions : iterable of Expression
        From a file.
    max_regions : int
        Regions of an image, at most.
    captions : mapping of str to list of str, optional
        Sentences by the name of the image, without folders.

    Returns
    -------
    images : list of DescribedImage
        Sorted by content hash.
    skipped : Counter of str
        Number of expressions without an image, by reason.
    """
    resolved = resolve_images(expressions, catalog.images())
    found: dict[str, _Gathered] = {}
    for expression, row in resolved.pairs:
        gathered = found.setdefault(row.content_hash, _Gathered(row))
        gathered.phrases[expression.phrase, expression.box] = None
        gathered.splits[expression.split] += 1
    store = RegionStore(catalog)
    try:
        images = [
            _describe(found[content], store, max_regions, captions or {})
            for content in sorted(found)
        ]
    finally:
        store.close()
    return images, resolved.skipped


def _describe(
    gathered: _Gathered,
    store: RegionStore,
    max_regions: int,
    captions: Mapping[str, Sequence[str]],
) -> DescribedImage:
    row = gathered.row
    table = store.gather([(row.shard, row.row)])
    labels = [table.label(number) for number in range(len(table.boxes))]
    targets = np.array([box for _, box in gathered.phrases], np.float32).reshape(-1, 4)
    boxes = table.boxes[:1]
    for box in targets:  # a box is often named several times, and drawn a little differently
        if pairwise_iou(box[None], boxes).max() < _SAME_BOX:
            boxes = np.concatenate([boxes, box[None]])
    boxes = boxes[:max_regions]
    given = len(boxes) - 1
    covered = pairwise_iou(targets, boxes).max(axis=1) >= _SAME_BOX  # if there were few enough
    # The surest detections first; one that an expression boxes as well is a label for that box.
    order = 1 + np.argsort(-table.scores[1:], kind="stable")
    apart = [
        number for number in order.tolist()
        if pairwise_iou(table.boxes[number][None], boxes).max() < _SAME_REGION
        or not is_group(labels[number])
    ]  # fmt: skip
    others = apart[: max_regions - len(boxes)]
    name = row.path.replace("\\", "/").rsplit("/", 1)[-1]
    return DescribedImage(
        path=row.path,
        content_hash=row.content_hash,
        boxes=np.concatenate([boxes, table.boxes[others]]),
        labels=(labels[0], *[""] * given, *(labels[number] for number in others)),
        scores=np.concatenate([[1.0], np.zeros(given), table.scores[others]]).astype(np.float32),
        given=given,
        phrases=tuple(
            phrase for (phrase, _), kept in zip(gathered.phrases, covered, strict=True) if kept
        ),
        targets=targets[covered],
        captions=tuple(captions.get(name, ())),
        split=gathered.splits.most_common(1)[0][0],
    )


def split_images(
    images: Sequence[DescribedImage], seed: int, held_out: Collection[str] = ()
) -> Sets:
    """Hold out images: those of some splits, else a tenth for validation and a tenth for the test.

    Parameters
    ----------
    images : sequence of DescribedImage
        All of them.
    seed : int
        Of the draw.
    held_out : collection of str
        Splits to hold out, half of their images for validation.

    Raises
    ------
    ExpressionError
        If too few images are left for one of the sets.
    """

    def draw(image: DescribedImage) -> bytes:
        return hashlib.blake2b(f"{seed} {image.content_hash}".encode()).digest()

    order = sorted(images, key=draw)  # an image's place does not depend on which others there are
    if held_out:
        apart = [image for image in order if image.split in held_out]
        training = [image for image in order if image.split not in held_out]
        half = len(apart) // 2
        sets = Sets(training, apart[:half], apart[half:])
    else:
        count = max(2, min(round(_HELD_OUT_SHARE * len(order)), _MOST_HELD_OUT))
        sets = Sets(order[2 * count :], order[:count], order[count : 2 * count])
    if not (sets.training and sets.validation and sets.test):
        raise ExpressionError(
            f"the expressions are about {counted(len(images), 'image')}, too few to train with "
            "some and hold out others; add expressions about at least five more images"
        )
    return sets
