"""Augmentation of training batches: embeddings, labels, regions and words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from .batch import ImageBatch
from .losses import POSITIVE_IOU

__all__ = ["confuse_labels", "drop_regions", "drop_words", "jitter_embeddings"]


_REGION_DROPOUT = 0.1
_WORD_DROPOUT = 0.1
_CONFUSED_IMAGES = 0.35
_MOST_CONFUSED = 0.5  # share of an image's labels


def jitter_embeddings(
    images: ImageBatch, strength: float, random: np.random.Generator
) -> ImageBatch:
    """Shift each region's embedding by a random multiple of the difference of two others.

    The multiple is drawn for each image, from 0 to `strength`. Differences of embeddings have the
    directions in which embeddings really vary, which plain noise has not.
    """
    known = images.embeddings[images.present]
    shape = images.embeddings.shape[:2]

    def draw_embeddings() -> torch.Tensor:
        rows = torch.from_numpy(random.integers(0, len(known), shape))
        return known[rows.to(known.device)]

    first, second = draw_embeddings(), draw_embeddings()
    amount = strength * torch.from_numpy(random.random((shape[0], 1, 1), np.float32))
    shifted = images.embeddings + amount.to(known.device) * (first - second)
    shifted = functional.normalize(shifted, dim=-1)
    return replace(images, embeddings=shifted.masked_fill(~images.present[..., None], 0))


def confuse_labels(images: ImageBatch, random: np.random.Generator) -> ImageBatch:
    """Give some regions of some images the labels of others, as weak detectors do.

    Whole images and groups keep theirs.
    """
    device = images.labels.device
    count, regions = images.labels.shape
    amount = random.random((count, 1)) * _MOST_CONFUSED
    amount *= random.random((count, 1)) < _CONFUSED_IMAGES
    drawn = torch.from_numpy(random.random((count, regions)) < amount).to(device)
    single = images.present & ~images.groups
    single[:, 0] = False
    known = images.labels[single]
    if not len(known):
        return images
    others = torch.from_numpy(random.integers(0, len(known), (count, regions))).to(device)
    return replace(images, labels=torch.where(drawn & single, known[others], images.labels))


def drop_regions(
    images: ImageBatch, iou: torch.Tensor, image_index: torch.Tensor, random: np.random.Generator
) -> ImageBatch:
    """Leave out random regions, but no whole image and no positive of any example.

    Parameters
    ----------
    images : ImageBatch
        m images of n regions.
    iou : tensor of shape (e, n)
        IoU of the regions of each example's image with its target.
    image_index : int64 tensor of shape (e,)
        Image of each example.
    random : numpy.random.Generator
        Draws the regions.
    """
    device = images.present.device
    dropped = random.random(tuple(images.present.shape)) < _REGION_DROPOUT
    positives = torch.zeros(images.present.shape, device=device)
    positives.index_add_(0, image_index, (iou >= POSITIVE_IOU).float())
    chosen = torch.from_numpy(dropped).to(device) & (positives == 0)
    chosen[:, 0] = False
    return images.without(chosen)


def drop_words(count: int, random: np.random.Generator) -> torch.Tensor:
    """Choose a tenth of `count` phrases, whose words are hidden so that embeddings count too."""
    return torch.from_numpy(random.random(count) < _WORD_DROPOUT)
