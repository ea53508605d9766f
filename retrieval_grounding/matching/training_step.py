"""One step of training: what is drawn for it on the host, and what it computes on the device.

All random numbers are drawn on the host, and none of their number depends on a result of the
device. So the device never has to be waited for, and with padding the shapes of a step are always
the same: a GPU replays it as one graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from .augment import (
    Confusion,
    Jitter,
    confuse_labels,
    draw_confusion,
    draw_dropped_regions,
    draw_dropped_words,
    draw_jitter,
    drop_regions,
    jitter_embeddings,
)
from .batch import ImageBatch
from .boxes import box_iou, mirror_boxes
from .dataset import Examples
from .model import MatcherModel
from .negatives import Mentions, choose_negatives, may_show
from .options import TrainingOptions
from .phrase_batch import PhraseBatch

__all__ = [
    "CONTRAST_RATE",
    "DIMENSIONS",
    "Pairs",
    "Step",
    "StepSize",
    "draw_step",
    "images_of",
    "score_step",
]


CONTRAST_RATE = 0.5
"""Share of the examples with a false phrase that are met with it."""

_MIRROR_PROBABILITY = 0.5

DIMENSIONS = {
    "image": "m", "image_index": "e", "own_phrase": "e", "false_phrase": "c", "contrasted": "c",
    "real": "e", "contradicts": "c", "offered": "m", "mirrored": "m", "nouns": "e", "said": "em",
    "said_colors": "mk", "whole": "e", "boxes": "eb", "priority": "em", "own_wordless": "e",
    "false_wordless": "c", "first": "mn", "second": "mn", "amount": "m11", "confused": "mn",
    "donors": "mn", "dropped": "mn",
}  # fmt: skip
"""The dimensions of the arrays of a `Step`: e examples, c false phrases, m images, n regions."""


@dataclass(frozen=True)
class StepSize:
    """How many examples, false phrases, images, and regions in each, a step has."""

    e: int
    c: int
    m: int
    n: int

    def joined(self, other: StepSize) -> StepSize:
        """Return the smallest size that holds both."""
        return StepSize(*map(max, vars(self).values(), vars(other).values()))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array of a step."""
        lengths = vars(self) | _FIXED
        return tuple(lengths[letter] for letter in DIMENSIONS[name])


_FIXED = {"k": 11, "b": 4, "1": 1}


class Step(NamedTuple):
    """What a step needs beside the regions and the phrases, as arrays or tensors.

    `DIMENSIONS` has the shapes. Padding is zeros: the first image and phrase, but not `real`.

    Parameters
    ----------
    image : int64
        Numbers of the images.
    image_index : int64
        Which of them each example is about.
    own_phrase, false_phrase : int64
        Rows of the phrases, mirrored where the image is, and of phrases that are false.
    contrasted : int64
        The example that each false phrase contradicts.
    real, contradicts, offered : bool
        False for examples, false phrases and images that are padding.
    mirrored : bool
        Images that are mirrored.
    nouns : int64
        The examples' nouns as rows of a table from :class:`.negatives.LabelMeanings`.
    said, said_colors : bool
        See :func:`.negatives.may_show`.
    whole : bool
        Sentences without a box, which are about their own image.
    boxes : float32
        Of the targets, NaN where unknown.
    priority : float32
        See :func:`.negatives.choose_negatives`.
    own_wordless, false_wordless : bool
        Phrases whose words are hidden.
    first, second, amount, confused, donors, dropped
        See :mod:`.augment`.
    """

    image: Any
    image_index: Any
    own_phrase: Any
    false_phrase: Any
    contrasted: Any
    real: Any
    contradicts: Any
    offered: Any
    mirrored: Any
    nouns: Any
    said: Any
    said_colors: Any
    whole: Any
    boxes: Any
    priority: Any
    own_wordless: Any
    false_wordless: Any
    first: Any
    second: Any
    amount: Any
    confused: Any
    donors: Any
    dropped: Any

    @property
    def size(self) -> StepSize:
        """How much there is of everything."""
        return StepSize(len(self.real), len(self.contradicts), *self.dropped.shape)

    @property
    def phrases(self) -> Any:
        """Rows of all phrases, first of the examples and then of the false ones, (e + c,)."""
        join = torch.cat if isinstance(self.real, torch.Tensor) else np.concatenate
        return join([self.own_phrase, self.false_phrase])

    def to(self, device: torch.device) -> Step:
        """Return the arrays as tensors on a device."""
        return Step(*(torch.from_numpy(array).to(device) for array in self))


class Pairs(NamedTuple):
    """The scores of the pairs of phrase and image, as the arguments of a training loss.

    See :func:`.losses.training_loss`.
    """

    logits: torch.Tensor
    iou: torch.Tensor
    located: torch.Tensor
    present: torch.Tensor
    contrasted: torch.Tensor
    foreign: torch.Tensor


def images_of(batch: Examples) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the images of some examples, each once, and which of them each example is about."""
    return np.unique(batch.image, return_inverse=True)


def draw_step(
    batch: Examples,
    image: npt.NDArray[np.int64],
    image_index: npt.NDArray[np.int64],
    mentions: Mentions,
    counts: tuple[int, int, int],
    options: TrainingOptions,
    random: np.random.Generator,
) -> Step:
    """Draw everything that is random in a step but dropout.

    Parameters
    ----------
    batch : Examples
        e examples.
    image, image_index : int64 arrays of shape (m,) and (e,)
        From `images_of`.
    mentions : Mentions
        What all examples say about all images.
    counts : tuple of int
        The most regions of an image, the number of regions, and that of single things; see
        :func:`.augment.single_things`.
    options : TrainingOptions
        How to train.
    random : numpy.random.Generator
        Draws.
    """
    longest, known, single = counts
    shape = (len(image), longest)

    mirrored = random.random(len(image)) < _MIRROR_PROBABILITY
    mirrored[image_index[batch.mirrored < 0]] = False
    is_mirrored = mirrored[image_index]
    false_phrase = np.where(is_mirrored, batch.mirrored_contrast, batch.contrast)
    chosen = (false_phrase >= 0) & (random.random(len(batch)) < CONTRAST_RATE)
    contrasted = np.flatnonzero(chosen)

    priority = random.random((len(batch), len(image)), np.float32)
    wordless = draw_dropped_words(len(batch) + len(contrasted), random)
    if options.embedding_jitter:
        jitter = draw_jitter(shape, known, options.embedding_jitter, random)
    else:
        nothing = np.zeros(shape, np.int64)
        jitter = Jitter(nothing, nothing, np.zeros((len(image), 1, 1), np.float32))
    confusion = draw_confusion(shape, single, random)
    nouns = mentions.nouns(batch.phrase)
    return Step(
        image,
        image_index,
        np.where(is_mirrored, batch.mirrored, batch.phrase),
        false_phrase[chosen],
        contrasted,
        np.ones(len(batch), bool),
        np.ones(len(contrasted), bool),
        np.ones(len(image), bool),
        mirrored,
        np.where(nouns < 0, len(mentions.words), nouns),
        mentions.said(image, nouns),
        mentions.colors(image),
        mentions.sentences(batch.phrase) & ~batch.located,
        batch.boxes,
        priority,
        wordless[: len(batch)],
        wordless[len(batch) :],
        *jitter,
        *confusion,
        draw_dropped_regions(shape, random),
    )


def score_step(
    model: MatcherModel,
    step: Step,
    images: ImageBatch,
    phrases: PhraseBatch,
    meanings: torch.Tensor,
    baseline: float,
    options: TrainingOptions,
    padded: bool,
) -> Pairs:
    """Augment a batch, pair its phrases with images, and score the pairs.

    Parameters
    ----------
    model : MatcherModel
        In training.
    step : Step
        Tensors on the device.
    images : ImageBatch
        The images of the step.
    phrases : PhraseBatch
        Its phrases, of the examples and false ones.
    meanings : bool tensor of shape (w + 1, k)
        From :meth:`.negatives.LabelMeanings.table`.
    baseline : float
        See :class:`.negatives.Mentions`.
    options : TrainingOptions
        How to train.
    padded : bool
        Score also the pairs with other images that do not count, so that the shapes are always the
        same.
    """
    device = step.image.device
    examples, false, count, _ = vars(step.size).values()
    own = step.image_index[:, None] == torch.arange(count, device=device)
    own = (own & step.real[:, None]).to(phrases.parts.dtype)
    shown = may_show(
        step.said,
        step.said_colors,
        meanings.index_select(0, step.nouns),
        phrases.first(examples),
        images,
        own,
        step.whole,
        baseline,
    )
    excluded = shown | ~(step.offered & step.real[:, None])
    others, foreign = choose_negatives(excluded, options.negatives, step.priority)
    phrases = phrases.without_words(torch.cat([step.own_wordless, step.false_wordless]))

    images = images.mirrored(step.mirrored)
    if options.embedding_jitter:
        images = jitter_embeddings(images, Jitter(step.first, step.second, step.amount))
    mirrored = step.mirrored[step.image_index]
    targets = torch.where(mirrored[:, None], mirror_boxes(step.boxes), step.boxes)
    located = targets.isfinite().all(1)
    iou = box_iou(targets.nan_to_num(), images.boxes[step.image_index])
    images = confuse_labels(images, Confusion(step.confused, step.donors))
    images = drop_regions(images, iou, own, step.dropped)

    # Pairs of phrase and image, in the order that the loss expects.
    numbers = torch.arange(examples, device=device)
    false_phrases = examples + torch.arange(false, device=device)
    repeated = numbers[:, None].expand_as(others)
    if padded:
        paired, other = repeated.flatten(), others.flatten()
    else:
        paired, other = repeated[foreign], others[foreign]
    phrase_of_pair = torch.cat([numbers, false_phrases, paired])
    image_of_pair = torch.cat([step.image_index, step.image_index[step.contrasted], other])
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        logits = model(phrases, images, phrase_of_pair, image_of_pair).float()
    present = images.present[image_of_pair]
    return Pairs(logits, iou, located, present, step.contrasted, foreign)
