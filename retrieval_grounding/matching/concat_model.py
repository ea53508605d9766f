"""The concat network: the classic MLP on concatenated region and phrase embeddings."""

from __future__ import annotations

import torch
from torch import nn

from .batch import ImageBatch
from .config import MatcherConfig
from .model import MatcherModel
from .phrase_batch import PhraseBatch
from .rows import take_rows

__all__ = ["ConcatModel"]


class ConcatModel(MatcherModel):
    """The course project's classifier: an MLP on region embedding, box and phrase embedding.

    Parameters
    ----------
    config : MatcherConfig
        Shape.
    """

    def __init__(self, config: MatcherConfig) -> None:
        super().__init__()
        # The first layer is linear, so its halves for region and phrase are computed apart.
        self.region = nn.Linear(config.dimension + 4, 6 * config.width)
        self.phrase = nn.Linear(config.dimension, 6 * config.width, bias=False)
        self.rest = nn.Sequential(
            nn.ReLU(),
            nn.Linear(6 * config.width, 3 * config.width),
            nn.ReLU(),
            nn.Linear(3 * config.width, 1),
        )

    def encode_images(self, images: ImageBatch) -> torch.Tensor:
        """Return the regions' half of the first layer, (m, n, 6 · width)."""
        regions: torch.Tensor = self.region(torch.cat([images.embeddings, images.boxes], dim=-1))
        return regions

    def score_pairs(
        self,
        phrases: PhraseBatch,
        images: ImageBatch,
        encoded: torch.Tensor,
        phrase_index: torch.Tensor,
        image_index: torch.Tensor | slice,
    ) -> torch.Tensor:
        """Return logits, (pairs, n); see :class:`MatcherModel`."""
        projected = take_rows(self.phrase(phrases.embeddings), phrase_index)[:, None]
        logits: torch.Tensor = self.rest(take_rows(encoded, image_index) + projected).squeeze(-1)
        return logits.masked_fill(~images.present[image_index], -torch.inf)
