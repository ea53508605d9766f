"""The interface of matcher networks: encode images once, then score phrase-image pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .batch import ImageBatch
from .phrase_batch import PhraseBatch

__all__ = ["MatcherModel"]


class MatcherModel(nn.Module):
    """A network that encodes images once for all phrases, then scores pairs."""

    def forward(
        self,
        phrases: PhraseBatch,
        images: ImageBatch,
        phrase_index: torch.Tensor,
        image_index: torch.Tensor,
    ) -> torch.Tensor:
        """Return logits of the regions of images for phrases, one row for each pair.

        Parameters
        ----------
        phrases : PhraseBatch
            p phrases.
        images : ImageBatch
            m images of n regions.
        phrase_index, image_index : int64 tensors of shape (pairs,)
            The phrase and the image of each pair.

        Returns
        -------
        tensor of shape (pairs, n)
            Minus infinity in padding.
        """
        encoded = self.encode_images(images)
        return self.score_pairs(phrases, images, encoded, phrase_index, image_index)

    def encode_images(self, images: ImageBatch) -> Any:
        """Return what does not depend on the phrase, for :meth:`score_pairs`."""
        raise NotImplementedError

    def score_pairs(
        self,
        phrases: PhraseBatch,
        images: ImageBatch,
        encoded: Any,
        phrase_index: torch.Tensor,
        image_index: torch.Tensor | slice,
    ) -> torch.Tensor:
        """Return the logits of :meth:`forward`; a slice of images is taken without a copy."""
        raise NotImplementedError
