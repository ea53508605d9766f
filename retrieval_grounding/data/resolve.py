"""Finding the indexed images that expressions refer to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..storage.rows import ImageRow
from .expressions import Expression, clipped_box
from .names import PathNames

__all__ = ["ImageNames", "Resolved", "resolve_images"]


@dataclass(frozen=True)
class Resolved:
    """Expressions with their images.

    Parameters
    ----------
    pairs : sequence of (Expression, ImageRow)
        In the order of the input. Boxes are in pixels of the indexed image, clipped to it.
    positions : sequence of int
        Position of each pair's expression in the input.
    skipped : Counter of str
        Number of expressions without an image, by reason: ``image-not-in-index``,
        ``ambiguous-name``, ``aspect-ratio-differs``, ``box-outside-image``.
    """

    pairs: Sequence[tuple[Expression, ImageRow]]
    positions: Sequence[int]
    skipped: Counter[str]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)


def resolve_images(expressions: Iterable[Expression], images: Iterable[ImageRow]) -> Resolved:
    """Find the image of each expression by its name.

    A name is matched as a whole path, then as the end of a path, and then by its COCO number:
    ``COCO_train2014_000000123456_17.jpg`` (which includes the number of an annotation),
    ``COCO_train2014_000000123456.jpg`` and ``000000123456.jpg`` are the same image. Folders in a
    name must match: ``train/1.jpg`` is never ``val/1.jpg``. Composed and decomposed accents are the
    same. A name that matches several images is ambiguous, unless they are copies of one file.

    Boxes for a different image size are scaled if the aspect ratio is the same up to rounding.

    Parameters
    ----------
    expressions : iterable of Expression
        From :func:`retrieval_grounding.read_expressions`.
    images : iterable of ImageRow
        All images of an index.
    """
    names = ImageNames(images)
    pairs, positions = [], []
    skipped: Counter[str] = Counter()
    for position, expression in enumerate(expressions):
        found = names.find(expression.image)
        if len({(image.shard, image.row) for image in found}) != 1:
            skipped["ambiguous-name" if found else "image-not-in-index"] += 1
            continue
        fitted = _fit(expression, found[0])
        if isinstance(fitted, Expression):
            pairs.append((fitted, found[0]))
            positions.append(position)
        else:
            skipped[fitted] += 1
    return Resolved(pairs, positions, skipped)


class ImageNames:
    """Looks up the images of an index by path, file name or COCO number.

    Parameters
    ----------
    images : iterable of ImageRow
        All images of the index.
    """

    def __init__(self, images: Iterable[ImageRow]) -> None:
        self._images = {image.path: image for image in images}
        self._names = PathNames(self._images)

    def find(self, name: str) -> list[ImageRow]:
        """Return the images that `name` matches, by the rules of :func:`resolve_images`.

        Copies of one file have the same shard and row.
        """
        return [self._images[path] for path in self._names.find(name)]


def _fit(expression: Expression, image: ImageRow) -> Expression | str:
    """Return the expression in pixels of `image`, or the reason why it does not fit."""
    size = (image.width, image.height)
    box = expression.box
    if expression.image_size not in (None, size):
        width, height = expression.image_size
        scale = max(size) / max(width, height)
        if abs(width * scale - image.width) > 1 or abs(height * scale - image.height) > 1:
            return "aspect-ratio-differs"
        x, y = image.width / width, image.height / height
        box = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
    inside = clipped_box(box, size)
    if inside is None:
        return "box-outside-image"
    return replace(expression, box=inside, image_size=size)
