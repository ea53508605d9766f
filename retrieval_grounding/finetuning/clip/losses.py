"""The losses of fine-tuning a CLIP model on regions and phrases."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["GOOD", "caption_loss", "listwise", "memory_losses", "phrase_losses"]

GOOD = 0.15
"""Target weight from which a crop counts as what the phrase means: IoU 0.6."""

_NEVER = -1e4
_CROP_WEIGHT = 0.5
_BANK_WEIGHT = 1.0
_SAID_WEIGHT = 2.0
_BANK_SCALE = 30.0


def phrase_losses(
    logits: Tensor, targets: Tensor, own: Tensor, unclear: Tensor
) -> dict[str, Tensor]:
    """Return the losses of phrases and the regions that they mean.

    ``within`` is listwise over the regions of the phrase's own image, ``across`` over those of all
    images, and ``crop`` over the phrases for one region.

    Parameters
    ----------
    logits : tensor of shape (m, r)
        Scaled similarities of m phrases and r regions of several images.
    targets : tensor of shape (m, r)
        How well each region is what the phrase means; 0 for other images.
    own : bool tensor of shape (m, r)
        Regions of the phrase's own image.
    unclear : bool tensor of shape (m, r)
        Regions that are neither right nor wrong.
    """
    clear = logits.masked_fill(unclear, _NEVER)
    return {
        "within": listwise(clear.masked_fill(~own, _NEVER), targets),
        "across": listwise(clear, targets),
        "crop": _CROP_WEIGHT * listwise(clear.T, (targets > GOOD).to(logits.dtype).T),
    }


def caption_loss(logits: Tensor) -> Tensor:
    """Return the contrastive loss of images and their captions in both directions.

    Parameters
    ----------
    logits : tensor of shape (c, c)
        Scaled similarities; the caption of image i is number i.
    """
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def memory_losses(
    crops: Tensor, bank: Tensor, former_crops: Tensor, former_bank: Tensor
) -> dict[str, Tensor]:
    """Return how far the encoder has moved from the former one; all embeddings have unit length.

    ``bank`` compares what both find in a crop among a bank of phrases, so that nouns that no batch
    names are not forgotten; ``said`` keeps the embeddings of these phrases near the former ones.

    Parameters
    ----------
    crops, former_crops : tensors of shape (n, d)
        Embeddings of crops now and before.
    bank, former_bank : tensors of shape (b, d)
        Embeddings of the phrases now and before.
    """
    wanted = (_BANK_SCALE * former_crops @ former_bank.T).softmax(1)
    given = functional.log_softmax(_BANK_SCALE * crops @ bank.T, 1)
    return {
        "bank": -_BANK_WEIGHT * (wanted * given).sum(1).mean(),
        "said": _SAID_WEIGHT * (1 - (bank * former_bank).sum(1)).mean(),
    }


def listwise(logits: Tensor, weights: Tensor) -> Tensor:
    """Return the cross-entropy to soft targets, over the rows that have a target."""
    total = weights.sum(1, keepdim=True)
    targets = weights / total.clamp(min=1e-6)
    losses = -(targets * functional.log_softmax(logits, 1)).sum(1)
    has_target = total[:, 0] > 0
    # A batch of one poor image may have no target: its loss is zero, not the mean of nothing.
    return losses[has_target].sum() / has_target.sum().clamp(min=1)
