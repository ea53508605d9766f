"""Training losses: listwise within an image, binary per region, and distillation from cosine."""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = ["POSITIVE_IOU", "bce_loss", "distillation_loss", "listwise_loss", "training_loss"]


POSITIVE_IOU = 0.4
"""A region that overlaps the target less is a negative."""

_FULL_POSITIVE_IOU = 0.7  # the binary target rises from 0 to 1 between the two
_COSINE_SCALE = 30.0
_BCE_WEIGHT = 0.3


def listwise_loss(logits: torch.Tensor, iou: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy to the regions that overlap the target, the more the better.

    Parameters
    ----------
    logits, iou : tensors of shape (e, n)
        Scores of the n regions of each example's image, minus infinity in padding, and their IoU
        with the target.

    Returns
    -------
    tensor of shape (e,)
        0 where no region reaches `POSITIVE_IOU`.
    """
    weights = (iou - POSITIVE_IOU).clamp(min=0)
    targets = weights / weights.sum(1, keepdim=True).clamp(min=1e-9)
    log_probs = functional.log_softmax(logits, dim=1).masked_fill(logits == -torch.inf, 0)
    return -(targets * log_probs).sum(1)


def distillation_loss(
    logits: torch.Tensor, cosines: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """Return the cross-entropy to the softmax of scaled cosines, (e,).

    For phrases without a box, the ranking by cosine is the best guess there is, and the residual
    learns to leave it unchanged.

    Parameters
    ----------
    logits, cosines : tensors of shape (e, n)
        Scores of the n regions of each example's image, and cosines of region and phrase.
    present : bool tensor of shape (e, n)
        False in padding.
    """
    targets = (_COSINE_SCALE * cosines).masked_fill(~present, -torch.inf).softmax(1)
    log_probs = functional.log_softmax(logits, dim=1).masked_fill(~present, 0)
    return -(targets * log_probs).sum(1)


def bce_loss(
    logits: torch.Tensor, iou: torch.Tensor, located: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """Return the binary cross-entropy, summed over the regions of each pair, (pairs,).

    The first e pairs are examples: phrases with their own images. The others are negatives:
    phrases with images that do not show what they describe. For an example without a box only the
    highest-scoring region counts, as a positive, since one region must be the target.

    Parameters
    ----------
    logits : tensor of shape (pairs, n)
        Scores of the n regions of each pair's image.
    iou : tensor of shape (e, n)
        IoU of the regions with the target.
    located : bool tensor of shape (e,)
        Whether the example has a box.
    present : bool tensor of shape (pairs, n)
        False in padding.
    """
    examples = len(iou)
    best = functional.one_hot(logits[:examples].argmax(1), logits.shape[1]).bool()
    positives = ((iou - POSITIVE_IOU) / (_FULL_POSITIVE_IOU - POSITIVE_IOU)).clamp(0, 1)
    targets = torch.zeros_like(logits)
    targets[:examples] = torch.where(located[:, None], positives, best.float())
    counted = present.clone()
    counted[:examples] &= located[:, None] | best
    losses = functional.binary_cross_entropy_with_logits(
        logits.masked_fill(~counted, 0), targets, reduction="none"
    )
    return losses.masked_fill(~counted, 0).sum(1)


def training_loss(
    logits: torch.Tensor,
    cosines: torch.Tensor,
    iou: torch.Tensor,
    located: torch.Tensor,
    present: torch.Tensor,
) -> torch.Tensor:
    """Return the loss that training minimizes, a scalar.

    It is the mean over examples of the listwise loss, or of the distillation loss where there is
    no box, plus a weighted :func:`bce_loss`.

    Parameters
    ----------
    logits, iou, located, present : tensors
        As for :func:`bce_loss`.
    cosines : tensor of shape (e, n)
        As for :func:`distillation_loss`.
    """
    examples = len(iou)
    iou = iou.masked_fill(~present[:examples], 0)
    ranking = torch.where(
        located,
        listwise_loss(logits[:examples], iou),
        distillation_loss(logits[:examples], cosines, present[:examples]),
    )
    binary = bce_loss(logits, iou, located, present)
    return ranking.mean() + _BCE_WEIGHT * binary.sum() / (2 * examples)
