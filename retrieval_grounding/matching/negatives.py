"""Negative images for phrases: random ones, and hard ones that cosine mistakes for a match."""

from __future__ import annotations

import numpy as np
import torch

from .batch import ImageBatch

__all__ = ["hard_negatives", "random_negatives"]


_COSINE_SCALE = 15.0  # the higher, the more often the most similar image is drawn
_MIN_SCORE = 0.08  # detections below it say nothing


def random_negatives(
    image_index: torch.Tensor, count: int, random: np.random.Generator
) -> torch.Tensor:
    """Return for each example an image other than its own, int64 (e,).

    Parameters
    ----------
    image_index : int64 tensor of shape (e,)
        Image of each example.
    count : int
        Number of images, at least 2.
    random : numpy.random.Generator
        Draws the images.
    """
    steps = torch.from_numpy(random.integers(1, count, len(image_index)))
    return (image_index + steps.to(image_index.device)) % count


@torch.no_grad()
def hard_negatives(
    phrases: torch.Tensor,
    images: ImageBatch,
    image_index: torch.Tensor,
    iou: torch.Tensor,
    located: torch.Tensor,
    random: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw images that match by cosine but do not show the target: "orange", and a box of apples.

    An image in which the target's label was detected may well show what the phrase describes, so
    it is never drawn; for a group, that is the label of its members. Examples without a box have no
    label, and get no hard negative; neither do those for which no image is left.

    Parameters
    ----------
    phrases : float tensor of shape (e, d)
        Embedding of each example's phrase.
    images : ImageBatch
        m images of n regions.
    image_index : int64 tensor of shape (e,)
        Image of each example.
    iou : tensor of shape (e, n)
        IoU of the regions of each example's image with its target.
    located : bool tensor of shape (e,)
        Whether the example has a box.
    random : numpy.random.Generator
        Draws the images.

    Returns
    -------
    examples, negatives : int64 tensors of shape (h,)
        Numbers of examples, and an image for each.
    """
    cosines = torch.einsum("ed,mnd->emn", phrases, images.embeddings)
    similarity = cosines.masked_fill(~images.present, -1).amax(-1)
    target = iou.argmax(1)  # region 0, the whole image, if the detector missed the target
    target_class = images.classes[image_index].gather(1, target[:, None])
    detected = images.present & (images.scores > _MIN_SCORE)
    excluded = ((images.classes[None] == target_class[:, None]) & detected).any(-1)
    excluded.scatter_(1, image_index[:, None], True)
    # Adding Gumbel noise and taking the maximum samples from a softmax over the images.
    noise = torch.from_numpy(random.gumbel(size=tuple(similarity.shape)).astype(np.float32))
    priority = (_COSINE_SCALE * similarity + noise.to(similarity.device)).masked_fill(
        excluded, -torch.inf
    )
    eligible = located & (target > 0) & ~excluded.all(1)
    examples = torch.nonzero(eligible)[:, 0]
    return examples, priority[examples].argmax(1)
