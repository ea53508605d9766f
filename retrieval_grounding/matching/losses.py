"""Training losses: which region, which image, which of two phrases, and whether any."""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = [
    "POSITIVE_IOU",
    "across_images_loss",
    "bce_loss",
    "contrast_loss",
    "listwise_loss",
    "padded_training_loss",
    "training_loss",
]


POSITIVE_IOU = 0.4
"""A region that overlaps the target less is a negative."""

_FULL_POSITIVE_IOU = 0.7  # the binary target rises from 0 to 1 between the two
_CONTRAST_WEIGHT = 0.5
_BCE_WEIGHT = 0.15


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
    shares = _positive_shares(iou)
    everything = logits.logsumexp(1)
    return everything * shares.sum(1) - _expected(shares, logits)


def across_images_loss(
    logits: torch.Tensor, others: torch.Tensor, iou: torch.Tensor, located: torch.Tensor
) -> torch.Tensor:
    """Return the cross-entropy to the same regions among those of several images.

    All regions of the other images are negatives. Without a box, every region of its own image is
    a positive: the phrase is true of something in it.

    Parameters
    ----------
    logits, iou : tensors of shape (e, n)
        As for :func:`listwise_loss`.
    others : tensor of shape (e, k)
        Log-sum-exp of the scores of the regions of k other images, minus infinity for none.
    located : bool tensor of shape (e,)
        Whether the example has a box.

    Returns
    -------
    tensor of shape (e,)
        0 where no region reaches `POSITIVE_IOU`, if there is a box.
    """
    shares = _positive_shares(iou)
    own = logits.logsumexp(1)
    everything = torch.cat([own[:, None], others], 1).logsumexp(1)
    reached = torch.where(located, shares.sum(1), 1.0)
    positive = torch.where(located, _expected(shares, logits), own)
    return everything * reached - positive


def contrast_loss(
    logits: torch.Tensor, false_logits: torch.Tensor, iou: torch.Tensor, located: torch.Tensor
) -> torch.Tensor:
    """Return the logistic loss of a true phrase and a false one on the same region, (c,).

    The region is the one that overlaps the target most. Without a box, it is the image as a whole.

    Parameters
    ----------
    logits, false_logits : tensors of shape (c, n)
        Scores of the n regions of an image for both phrases.
    iou : tensor of shape (c, n)
        IoU of the regions with the target of the true phrase.
    located : bool tensor of shape (c,)
        Whether there is a box.
    """
    best = iou.argmax(1, keepdim=True)
    of_region = (false_logits.gather(1, best) - logits.gather(1, best))[:, 0]
    of_image = false_logits.logsumexp(1) - logits.logsumexp(1)
    losses = functional.softplus(torch.where(located, of_region, of_image))
    known = ~located | (iou.amax(1) > POSITIVE_IOU)
    return losses.masked_fill(~known, 0)


def bce_loss(
    logits: torch.Tensor, present: torch.Tensor, iou: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the binary cross-entropies of the regions of pairs of phrase and image, summed, (k,).

    Parameters
    ----------
    logits : tensor of shape (k, n)
        Scores of the n regions of each pair's image.
    present : bool tensor of shape (k, n)
        False in padding.
    iou : tensor of shape (k, n), optional
        IoU of the regions with the target; without it, every region is a negative.
    """
    known = logits.masked_fill(~present, 0)
    if iou is None:
        losses = functional.softplus(known)
    else:
        targets = ((iou - POSITIVE_IOU) / (_FULL_POSITIVE_IOU - POSITIVE_IOU)).clamp(0, 1)
        losses = functional.binary_cross_entropy_with_logits(known, targets, reduction="none")
    return losses.masked_fill(~present, 0).sum(1)


def training_loss(
    logits: torch.Tensor,
    iou: torch.Tensor,
    located: torch.Tensor,
    present: torch.Tensor,
    contrasted: torch.Tensor,
    foreign: torch.Tensor,
) -> torch.Tensor:
    """Return the loss that training minimizes, a scalar.

    The pairs of phrase and image are the e examples with their own images; then false phrases with
    the images of some examples; then examples with other images.

    Parameters
    ----------
    logits : tensor of shape (pairs, n)
        Scores of the n regions of each pair's image, minus infinity in padding.
    iou : tensor of shape (e, n)
        IoU of the regions with the target.
    located : bool tensor of shape (e,)
        Whether the example has a box.
    present : bool tensor of shape (pairs, n)
        False in padding.
    contrasted : int64 tensor of shape (c,)
        The example that each false phrase contradicts.
    foreign : bool tensor of shape (e, k)
        Which of up to k other images each example is paired with, row by row.
    """
    examples, false = len(iou), len(contrasted)
    own, false_logits = logits[:examples], logits[examples : examples + false]
    other_logits = logits[examples + false :]
    own_present = present[:examples]
    iou = iou.masked_fill(~own_present, 0)
    others = logits.new_full(foreign.shape, -torch.inf)
    others = others.masked_scatter(foreign, other_logits.logsumexp(1))
    loss = _ranking_loss(own, others, iou, located, torch.ones_like(located))
    if false:
        losses = contrast_loss(own[contrasted], false_logits, iou[contrasted], located[contrasted])
        loss = loss + _CONTRAST_WEIGHT * losses.mean()
    binary = _mean(bce_loss(own, own_present, iou), located)
    if len(other_logits):
        binary = binary + bce_loss(other_logits, present[examples + false :]).mean()
    return loss + _BCE_WEIGHT * binary


def padded_training_loss(
    logits: torch.Tensor,
    iou: torch.Tensor,
    located: torch.Tensor,
    present: torch.Tensor,
    contrasted: torch.Tensor,
    foreign: torch.Tensor,
    real: torch.Tensor,
    contradicts: torch.Tensor,
) -> torch.Tensor:
    """Return the loss of :func:`training_loss`, from tensors whose shapes are always the same.

    Here all e · k other images have a pair each, also where `foreign` is False.

    Parameters
    ----------
    logits, iou, located, present, contrasted, foreign
        As for :func:`training_loss`.
    real : bool tensor of shape (e,)
        False for examples that are padding.
    contradicts : bool tensor of shape (c,)
        False for false phrases that are padding.
    """
    parts = [len(iou), len(contrasted), foreign.numel()]
    own, false_logits, other_logits = torch.split(logits, parts)
    own_present, _, other_present = torch.split(present, parts)
    iou = iou.masked_fill(~own_present, 0)
    others = other_logits.logsumexp(1).view_as(foreign).masked_fill(~foreign, -torch.inf)
    loss = _ranking_loss(own, others, iou, located, real)
    own_of_false, iou_of_false = own.index_select(0, contrasted), iou.index_select(0, contrasted)
    losses = contrast_loss(own_of_false, false_logits, iou_of_false, located[contrasted])
    loss = loss + _CONTRAST_WEIGHT * _mean(losses, contradicts)
    binary = _mean(bce_loss(own, own_present, iou), located & real)
    binary = binary + _mean(bce_loss(other_logits, other_present), foreign.flatten())
    return loss + _BCE_WEIGHT * binary


def _ranking_loss(
    own: torch.Tensor,
    others: torch.Tensor,
    iou: torch.Tensor,
    located: torch.Tensor,
    real: torch.Tensor,
) -> torch.Tensor:
    """Return the two losses that tell regions and images apart, averaged over `real` examples."""
    reached = located & (iou.amax(1) > POSITIVE_IOU)
    loss = _mean(listwise_loss(own, iou), reached & real)
    across = across_images_loss(own, others, iou, located)
    return loss + _mean(across, (reached | ~located) & real)


def _positive_shares(iou: torch.Tensor) -> torch.Tensor:
    """Return how a target is shared by the regions that overlap it; zeros if none does."""
    weights = (iou - POSITIVE_IOU).clamp(min=0)
    return weights / weights.sum(1, keepdim=True).clamp(min=1e-9)


def _expected(shares: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return (shares * logits.masked_fill(shares == 0, 0)).sum(1)


def _mean(losses: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    return (losses * counted).sum() / counted.sum().clamp(min=1)
