"""What a matcher is trained to: the right region of an image, and yes or no for each."""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = ["cosine_loss", "listwise_loss", "truth_overlap", "yes_no_loss"]


LISTWISE_FROM = 0.4
"""A region that overlaps the truth less is no answer."""

_CERTAIN = 0.7  # and one that overlaps it more is a full one
_COSINE_SHARPNESS = 30.0


def truth_overlap(truths: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Return the IoU of each example's truth (e, 4) with the regions of its image (e, n, 4)."""
    corner = torch.maximum(truths[:, None, :2], boxes[..., :2])
    end = torch.minimum(truths[:, None, 2:], boxes[..., 2:])
    shared = (end - corner).clamp(min=0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    truth = (truths[:, 2:] - truths[:, :2]).prod(-1)
    return shared / (areas + truth[:, None] - shared).clamp(min=1e-9)


def listwise_loss(logits: torch.Tensor, iou: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy to the boxes that fit, (e,); 0 where none does."""
    wanted = (iou - LISTWISE_FROM).clamp(min=0)
    total = wanted.sum(1, keepdim=True)
    targets = wanted / total.clamp(min=1e-9)
    chances = functional.log_softmax(logits, dim=1).masked_fill(logits == -torch.inf, 0)
    return -(targets * chances).sum(1)


def cosine_loss(logits: torch.Tensor, cosines: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Return how far a ranking is from that by cosine, (e,).

    Where nobody knows the region, cosine is the best guess, and the residual learns to be silent
    about phrases of that sort.
    """
    wanted = (_COSINE_SHARPNESS * cosines).masked_fill(~present, -torch.inf).softmax(1)
    chances = functional.log_softmax(logits, dim=1).masked_fill(~present, 0)
    return -(wanted * chances).sum(1)


def yes_no_loss(
    logits: torch.Tensor, overlap: torch.Tensor, located: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """Return the binary cross-entropy summed over the regions of each pair, (pairs,).

    The first ``len(overlap)`` pairs are of phrases with their own images, the others are of
    phrases with foreign ones, where no region is the answer. Of a phrase that nobody has located
    only the best region counts: one of them must be the answer.
    """
    answers = torch.zeros_like(logits)
    own = len(overlap)
    answers[:own] = ((overlap - LISTWISE_FROM) / (_CERTAIN - LISTWISE_FROM)).clamp(0, 1)
    counted = present.clone()
    best = functional.one_hot(logits[:own].argmax(1), logits.shape[1]).bool()
    answers[:own] = torch.where(located[:, None], answers[:own], best.float())
    counted[:own] &= located[:, None] | best
    losses = functional.binary_cross_entropy_with_logits(
        logits.masked_fill(~counted, 0), answers, reduction="none"
    )
    return losses.masked_fill(~counted, 0).sum(1)
