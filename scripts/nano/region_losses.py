"""The losses of fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from retrieval_grounding.core.colors import COLORS
from retrieval_grounding.finetuning.clip.losses import GOOD, listwise

from .region_batches import RegionBatch

_NEVER = -1e4
_CROP_WEIGHT = 0.5
_CHANGE_WEIGHT = 0.5
_NAME_WEIGHT = 0.5
_COLOR_WEIGHT = 0.5
_REMEMBERED = 1500


@dataclass(frozen=True)
class Embedded:
    """Unit-length embeddings of a batch, and the scale of similarities.

    Parameters
    ----------
    regions, named, wholes : tensors of shape (r, d), (k, d) and (c, d)
        Images.
    phrases, captions, names, changed, color_phrases, bank : tensors of shape (..., d)
        Texts; `names` are the 80 classes.
    scale : tensor of shape ()
        Factor of similarities.
    """

    regions: Tensor
    named: Tensor
    wholes: Tensor
    phrases: Tensor
    captions: Tensor
    names: Tensor
    changed: Tensor
    color_phrases: Tensor
    bank: Tensor
    scale: Tensor


def phrase_losses(found: Embedded, batch: RegionBatch) -> dict[str, Tensor]:
    """Return the losses of phrases and the regions that they mean.

    ``within`` is listwise over the regions of the phrase's photograph, ``across`` over those of all
    photographs and the named crops of other classes, ``crop`` over the phrases for one region, and
    ``changed`` compares a phrase with a false one on the region that it means best.
    """
    device = found.regions.device
    targets = torch.from_numpy(batch.targets).to(device)
    own = torch.from_numpy(batch.own[:, None] == batch.photos[None]).to(device)
    logits = found.scale * found.phrases @ found.regions.T
    clear = logits.masked_fill(torch.from_numpy(batch.unclear).to(device), _NEVER)
    others = (found.scale * found.phrases @ found.named.T).masked_fill(
        ~torch.from_numpy(batch.other_class).to(device), _NEVER
    )
    good = (targets > GOOD).float()
    losses = {
        "within": listwise(logits.masked_fill(~own, _NEVER), targets),
        "across": listwise(
            torch.cat([clear, others], 1), functional.pad(targets, (0, others.shape[1]))
        ),
        "crop": _CROP_WEIGHT * listwise(clear.T, good.T),
    }
    if batch.changed:
        which = torch.tensor([number for number, _ in batch.changed], device=device)
        best = found.regions[targets[which].argmax(1)]
        true = (found.phrases[which] * best).sum(1)
        false = (found.changed * best).sum(1)
        losses["changed"] = (
            _CHANGE_WEIGHT * functional.softplus(found.scale * (false - true)).mean()
        )
    return losses


def name_losses(found: Embedded, batch: RegionBatch) -> dict[str, Tensor]:
    """Return the losses of naming the class and the color of crops."""
    device = found.named.device
    labels = torch.from_numpy(batch.labels).to(device)
    logits = found.scale * found.named @ found.names.T
    names = functional.cross_entropy(logits, labels, label_smoothing=0.05)
    losses = {"names": _NAME_WEIGHT * names}
    if batch.colors:
        crops, colors = torch.tensor(batch.colors, device=device).T
        phrases = found.color_phrases.unflatten(0, (len(crops), len(COLORS)))
        logits = found.scale * torch.einsum("nd,ncd->nc", found.named[crops], phrases)
        losses["colors"] = _COLOR_WEIGHT * functional.cross_entropy(logits, colors)
    return losses


class CaptionLoss:
    """Photographs and captions in both directions, contrasted with those of recent batches too.

    Wang et al., Cross-batch memory, 2020.
    """

    def __init__(self) -> None:
        self._recent: tuple[Tensor, Tensor, np.ndarray] | None = None

    def __call__(self, found: Embedded, rows: np.ndarray) -> Tensor:
        """Return the loss; `rows`, int (c,), tell photographs apart."""
        shown, said = found.wholes, found.captions
        images = found.scale * shown @ said.T
        texts = images.T
        if self._recent is not None:
            old_shown, old_said, old_rows = self._recent
            same = torch.from_numpy(rows[:, None] == old_rows[None]).to(shown.device)
            more = (found.scale * shown @ old_said.T).masked_fill(same, _NEVER)
            images = torch.cat([images, more], 1)
            more = (found.scale * said @ old_shown.T).masked_fill(same, _NEVER)
            texts = torch.cat([texts, more], 1)
        self._remember(shown.detach(), said.detach(), rows)
        own = torch.arange(len(rows), device=shown.device)
        return (functional.cross_entropy(images, own) + functional.cross_entropy(texts, own)) / 2

    def _remember(self, shown: Tensor, said: Tensor, rows: np.ndarray) -> None:
        if self._recent is not None:
            shown = torch.cat([shown, self._recent[0]])
            said = torch.cat([said, self._recent[1]])
            rows = np.concatenate([rows, self._recent[2]])
        self._recent = shown[:_REMEMBERED], said[:_REMEMBERED], rows[:_REMEMBERED]
