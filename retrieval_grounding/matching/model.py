"""The interface of matcher networks: encode images once, then score phrase-image pairs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from .batch import ImageBatch
from .phrase_batch import PhraseBatch

__all__ = ["MATCHER_FORMAT", "MatcherConfig", "MatcherModel"]


MATCHER_FORMAT = 3
"""Version of matcher files and of the networks that they hold."""

_MAX_SIZE = 1 << 16


@dataclass(frozen=True)
class MatcherConfig:
    """What determines a network's shape.

    Parameters
    ----------
    kind : str
        ``"residual"`` or ``"concat"``.
    dimension : int
        Length of the embeddings that the network looks into; 0 for a network that sees only how
        similar they are, which any encoder's embeddings serve.
    words : int
        Size of the vocabulary.
    width : int
        Hidden units, an even number.
    """

    kind: Literal["residual", "concat"]
    dimension: int
    words: int
    width: int = 64

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> MatcherConfig:
        """Return the configuration of :meth:`as_dict`.

        Raises
        ------
        TypeError, ValueError
            If a value is missing, of a wrong type or impossible.
        """
        config = cls(**value)
        sizes = (config.dimension, config.words, config.width)
        if config.kind not in ("residual", "concat") or any(
            type(size) is not int for size in sizes
        ):
            raise TypeError(f"its configuration is {value}")
        if min(sizes) < 0 or max(sizes) > _MAX_SIZE:
            raise ValueError(f"its configuration is {value}")
        return config


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
