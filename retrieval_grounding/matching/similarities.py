"""How similar regions are to the parts of phrases, on a scale that is the same for any encoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .batch import ImageBatch
from .phrase_batch import PARTS, PhraseBatch

__all__ = ["SIMILARITY_FEATURES", "Similarities", "SimilarityScale"]


_NAMES = 3  # phrase, target and noun may be the name of a label; a landmark is another thing

SIMILARITY_FEATURES = 5 * PARTS + 2
"""Number of values that `Similarities.features` returns for a region."""


@dataclass(frozen=True)
class Similarities:
    """Standardized similarities of the n regions of k pairs of phrase and image.

    Parameters
    ----------
    regions : tensor of shape (k, n, PARTS)
        Of the regions' embeddings and the phrase's parts; 0 where a phrase has no such part.
    best : tensor of shape (k, n, PARTS)
        The same, less that of the most similar region of the image.
    labels : tensor of shape (k, n, PARTS)
        Of the regions' label embeddings and the phrase's parts.
    parts : tensor of shape (k, PARTS)
        1 where the phrase has the part.
    colors : tensor of shape (k, n, 2)
        The share of the region that has the colors named, and whether any is named.
    """

    regions: torch.Tensor
    best: torch.Tensor
    labels: torch.Tensor
    parts: torch.Tensor
    colors: torch.Tensor

    @property
    def features(self) -> torch.Tensor:
        """All of them side by side, (k, n, SIMILARITY_FEATURES)."""
        parts = self.parts[:, None].expand_as(self.regions)
        whole_image = self.regions[:, :1].expand_as(self.regions)
        own = [self.regions, self.labels, self.best]
        return torch.cat([*own, whole_image, parts, self.colors], -1)

    @property
    def noun(self) -> torch.Tensor:
        """How well the noun fits each region and its label, (k, n)."""
        return 0.6 * self.regions[..., 2] + 0.4 * self.labels[..., 2]


class SimilarityScale(nn.Module):
    """Mean and spread of an encoder's cosines, and what adds up to a first guess.

    Encoders differ in both: unrelated pairs have cosines around 0.1 with one, around -0.05 with
    another. Standardized, a network that has learned from the one serves the other.
    """

    statistics: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        # Of regions and class names: mean, spread; of class names among each other: mean, spread.
        self.register_buffer("statistics", torch.tensor([0.1, 0.1, 0.15, 0.1]))
        self.mixture = nn.Parameter(torch.tensor([1.0, 0.15, 0.15, 0.0]))

    def forward(
        self,
        phrases: PhraseBatch,
        images: ImageBatch,
        phrase_index: torch.Tensor,
        image_index: torch.Tensor | slice,
    ) -> Similarities:
        """Return the similarities of pairs of phrase and image."""
        mean, spread, label_mean, label_spread = self.statistics.unbind()
        parts = phrases.parts[phrase_index]
        present = phrases.present[phrase_index]
        known = images.present[image_index]
        cosines = images.embeddings[image_index] @ parts.transpose(1, 2)
        highest = cosines.masked_fill(~known[..., None], -1).amax(1, keepdim=True)
        names = images.label_embeddings
        label_cosines = (phrases.parts @ names.T - label_mean) / label_spread
        label_cosines = label_cosines * names.any(1)  # whole images have no name
        rows = images.labels[image_index]
        labels = label_cosines.transpose(1, 2)[phrase_index[:, None], rows]
        shown = images.colors[image_index] @ phrases.colors[phrase_index][..., None]
        said = phrases.colors.any(1)[phrase_index][:, None, None].to(shown.dtype)
        return Similarities(
            regions=(cosines - mean) / spread * present[:, None],
            best=(cosines - highest) / spread * present[:, None],
            labels=labels * present[:, None],
            parts=present,
            colors=torch.cat([shown, said.expand_as(shown)], -1),
        )

    def guess(self, similarities: Similarities) -> torch.Tensor:
        """Return a weighted sum of the similarities to the phrase and to labels, (k, n)."""
        labels = (similarities.labels[..., :_NAMES] * self.mixture[1:]).sum(-1)
        return similarities.regions[..., 0] * self.mixture[0] + labels
