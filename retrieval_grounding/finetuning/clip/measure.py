"""What a CLIP model finds by cosine on held-out images, from the cache alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...core.regions import pairwise_iou
from ...evaluation.metrics import Estimate, bootstrap_means
from ...matching.pseudo.templates import NOUNS
from ...models.cpu_pool import cpu_pool
from .examples import DescribedImage
from .region_cache import RegionCache
from .towers import ClipTowers

__all__ = ["CAPTIONS", "GIVEN_BOX", "NAMES", "Gain", "Measured", "compare", "measure"]

FloatArray = npt.NDArray[np.float64]

GIVEN_BOX = "given-box accuracy"
"""Share of phrases for which the best of the boxes that people drew in the image is right."""

NAMES = "names"
"""Share of sure detections that get the detector's name among all of COCO's names."""

CAPTIONS = "caption R@10"
"""Share of captions whose image is among the first ten of the held-out ones."""

_CORRECT = 0.5
_SURE = 0.5
_RANK = 10
_PROMPT = "a photo of a {}"
_INPUTS_PER_THREAD = 16
_INPUTS_AT_ONCE = 256


@dataclass(frozen=True)
class Measured:
    """Outcomes by measure, one value for each phrase, crop or caption.

    Parameters
    ----------
    outcomes : dict of str to float array
        1 where the model was right, 0 where not.
    images : dict of str to int array
        The number of each outcome's image.
    """

    outcomes: dict[str, FloatArray]
    images: dict[str, npt.NDArray[np.int64]]

    @property
    def figures(self) -> dict[str, float]:
        """The mean of each measure; NaN where there is nothing to measure."""
        return {
            name: float(values.mean()) if len(values) else float("nan")
            for name, values in self.outcomes.items()
        }


@dataclass(frozen=True)
class Gain:
    """A measure before and after, with 95% intervals.

    Parameters
    ----------
    before, after, gain : Estimate
        Means; the gain is paired.
    count, images : int
        Number of outcomes, and of images that they are about.
    """

    before: Estimate
    after: Estimate
    gain: Estimate
    count: int
    images: int


def measure(
    towers: ClipTowers,
    cache: RegionCache,
    images: Sequence[DescribedImage],
    numbers: Sequence[int],
) -> Measured:
    """Measure a model on some images.

    Parameters
    ----------
    towers : ClipTowers
        Its lower layers are cut off.
    cache : RegionCache
        What they computed.
    images : sequence of DescribedImage
        All images of the cache.
    numbers : sequence of int
        Those to measure on.
    """
    shown = _embed(towers, cache, images, numbers)
    given = _given_boxes(towers, images, numbers, shown)
    names = _names(towers, images, numbers, shown)
    captions = _captions(towers, images, numbers, shown)
    parts = {GIVEN_BOX: given, NAMES: names, CAPTIONS: captions}
    return Measured(
        {name: np.array(right, np.float64) for name, (right, _) in parts.items()},
        {name: np.array(of, np.int64) for name, (_, of) in parts.items()},
    )


def compare(before: Measured, after: Measured) -> dict[str, Gain]:
    """Return each measure that has outcomes, before and after."""
    gains = {}
    for name, old in before.outcomes.items():
        if not len(old):
            continue
        new = after.outcomes[name]
        _, images = np.unique(before.images[name], return_inverse=True)
        columns = np.stack([old, new, new - old], axis=1)
        first, second, gain = bootstrap_means(columns, images)
        gains[name] = Gain(first, second, gain, len(old), int(images.max()) + 1)
    return gains


_Outcomes = tuple[list[bool], list[int]]


def _embed(
    towers: ClipTowers,
    cache: RegionCache,
    images: Sequence[DescribedImage],
    numbers: Sequence[int],
) -> dict[int, npt.NDArray[np.float32]]:
    """Return the embeddings of each image's regions."""
    rows = np.concatenate([cache.rows(number) for number in numbers])
    on_cpu = towers.device == "cpu"
    each = _INPUTS_PER_THREAD if on_cpu else _INPUTS_AT_ONCE
    parts = [rows[start : start + each] for start in range(0, len(rows), each)]

    def run(part: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return towers.embed_inputs(np.asarray(cache.inputs[part]))

    done = cpu_pool().map(run, parts) if on_cpu else [*map(run, parts)]
    ends = np.cumsum([len(images[number].boxes) for number in numbers])[:-1]
    return dict(zip(numbers, np.split(np.concatenate(done), ends), strict=True))


def _given_boxes(
    towers: ClipTowers,
    images: Sequence[DescribedImage],
    numbers: Sequence[int],
    shown: dict[int, npt.NDArray[np.float32]],
) -> _Outcomes:
    usable = [number for number in numbers if images[number].given > 1]
    texts = [text for number in usable for text in images[number].phrases]
    said = iter(towers.embed_phrases(texts) if texts else ())
    right: list[bool] = []
    of: list[int] = []
    for number in usable:
        image = images[number]
        choices = slice(1, 1 + image.given)
        overlaps = pairwise_iou(image.targets, image.boxes[choices])
        for row in range(len(image.phrases)):
            best = int((shown[number][choices] @ next(said)).argmax())
            if overlaps[row].max() >= _CORRECT:  # else it means the whole image
                right.append(bool(overlaps[row, best] >= _CORRECT))
                of.append(number)
    return right, of


def _names(
    towers: ClipTowers,
    images: Sequence[DescribedImage],
    numbers: Sequence[int],
    shown: dict[int, npt.NDArray[np.float32]],
) -> _Outcomes:
    names = sorted({label for labels in NOUNS for label in labels})
    column = {name: at for at, name in enumerate(names)}
    prompts = towers.embed_phrases([_PROMPT.format(name) for name in names])
    right: list[bool] = []
    of: list[int] = []
    for number in numbers:
        image = images[number]
        for row in image.detected.tolist():
            if image.scores[row] >= _SURE and image.labels[row] in column:
                best = int((shown[number][row] @ prompts.T).argmax())
                right.append(best == column[image.labels[row]])
                of.append(number)
    return right, of


def _captions(
    towers: ClipTowers,
    images: Sequence[DescribedImage],
    numbers: Sequence[int],
    shown: dict[int, npt.NDArray[np.float32]],
) -> _Outcomes:
    texts = [(at, text) for at, number in enumerate(numbers) for text in images[number].captions]
    if not texts:
        return [], []
    wholes = np.stack([shown[number][0] for number in numbers])
    scores = towers.embed_phrases([text for _, text in texts]) @ wholes.T
    places = np.array([at for at, _ in texts])
    own = scores[np.arange(len(scores)), places]
    return (((scores > own[:, None]).sum(1) < _RANK).tolist(), [numbers[at] for at, _ in texts])
