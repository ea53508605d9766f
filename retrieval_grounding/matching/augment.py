"""Augmentation of training batches: embeddings, labels, regions and words.

What is drawn is drawn on the host, so that it does not depend on the device.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from .batch import ImageBatch
from .losses import POSITIVE_IOU

__all__ = [
    "Confusion",
    "Jitter",
    "confuse_labels",
    "draw_confusion",
    "draw_dropped_regions",
    "draw_dropped_words",
    "draw_jitter",
    "drop_regions",
    "jitter_embeddings",
    "single_things",
]


_REGION_DROPOUT = 0.1
_WORD_DROPOUT = 0.1
_CONFUSED_IMAGES = 0.35
_MOST_CONFUSED = 0.5  # share of an image's labels


class Jitter(NamedTuple):
    """What is drawn to shift the embeddings of m images of n regions.

    Parameters
    ----------
    first, second : int64 array or tensor of shape (m, n)
        Which of the regions present, counted from the first image on, the difference is of.
    amount : float32 array or tensor of shape (m, 1, 1)
        Multiple of the difference.
    """

    first: Any
    second: Any
    amount: Any


class Confusion(NamedTuple):
    """What is drawn to confuse the labels of m images of n regions.

    Parameters
    ----------
    chosen : bool array or tensor of shape (m, n)
        Regions that get another label.
    donors : int64 array or tensor of shape (m, n)
        Which of the single things, counted from the first image on, gives its label.
    """

    chosen: Any
    donors: Any


def draw_jitter(
    shape: tuple[int, int], known: int, strength: float, random: np.random.Generator
) -> Jitter:
    """Draw shifts for (m, n) regions of which `known` are present."""
    first, second = random.integers(0, known, shape), random.integers(0, known, shape)
    return Jitter(first, second, strength * random.random((shape[0], 1, 1), np.float32))


def jitter_embeddings(images: ImageBatch, drawn: Jitter) -> ImageBatch:
    """Shift each region's embedding by a random multiple of the difference of two others.

    The multiple is drawn for each image. Differences of embeddings have the directions in which
    embeddings really vary, which plain noise has not.
    """
    flat = images.embeddings.flatten(0, 1)

    def embeddings(numbers: torch.Tensor) -> torch.Tensor:
        places = _places(images.present, numbers)
        return flat.index_select(0, places).view_as(images.embeddings)

    shift = drawn.amount * (embeddings(drawn.first) - embeddings(drawn.second))
    shifted = functional.normalize(images.embeddings + shift, dim=-1)
    return replace(images, embeddings=shifted.masked_fill(~images.present[..., None], 0))


def draw_confusion(shape: tuple[int, int], single: int, random: np.random.Generator) -> Confusion:
    """Draw labels for (m, n) regions of which `single` are single things."""
    amount = random.random((shape[0], 1)) * _MOST_CONFUSED
    amount *= random.random((shape[0], 1)) < _CONFUSED_IMAGES
    chosen = random.random(shape) < amount
    if not single:
        return Confusion(np.zeros_like(chosen), np.zeros(shape, np.int64))
    return Confusion(chosen, random.integers(0, single, shape))


def confuse_labels(images: ImageBatch, drawn: Confusion) -> ImageBatch:
    """Give some regions of some images the labels of others, as weak detectors do.

    Whole images and groups keep theirs.
    """
    single = single_things(images)
    others = images.labels.flatten().index_select(0, _places(single, drawn.donors))
    chosen = drawn.chosen & single
    return replace(images, labels=torch.where(chosen, others.view_as(chosen), images.labels))


def single_things(images: ImageBatch) -> torch.Tensor:
    """Return which regions are neither whole images nor groups, nor padding, bool (m, n)."""
    single = images.present & ~images.groups
    single[:, 0] = False
    return single


def draw_dropped_regions(
    shape: tuple[int, int], random: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Choose a tenth of (m, n) regions."""
    return random.random(shape) < _REGION_DROPOUT


def drop_regions(
    images: ImageBatch, iou: torch.Tensor, own: torch.Tensor, drawn: torch.Tensor
) -> ImageBatch:
    """Leave out the regions drawn, but no whole image and no positive of any example.

    Parameters
    ----------
    images : ImageBatch
        m images of n regions.
    iou : tensor of shape (e, n)
        IoU of the regions of each example's image with its target.
    own : float tensor of shape (e, m)
        1 for the image of each example.
    drawn : bool tensor of shape (m, n)
        From `draw_dropped_regions`.
    """
    positives = own.T @ (iou >= POSITIVE_IOU).to(own.dtype)
    dropped = drawn & (positives == 0)
    dropped[:, 0] = False
    return images.without(dropped)


def draw_dropped_words(count: int, random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Choose a tenth of `count` phrases, whose words are hidden so that embeddings count too."""
    return random.random(count) < _WORD_DROPOUT


def _places(chosen: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Return where the places that are `chosen`, (m, n), numbered in order, are among all m · n.

    A number has its place without a list of all of them, whose length a GPU would have to tell.
    """
    ends = chosen.flatten().cumsum(0)
    places = torch.searchsorted(ends, numbers.flatten(), right=True)
    return places.clamp(max=len(ends) - 1)
