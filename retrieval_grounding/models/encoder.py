"""The ``Encoder`` protocol: regions and phrases embedded in one space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..core.regions import Regions

__all__ = ["Encoder", "Fingerprint"]


FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Fingerprint:
    """What must agree between the encoder that built an index and the one that queries it.

    Parameters
    ----------
    name : str
        The name that was given. It is only shown: two names may stand for the same weights.
    weights : str
        Hash of all parameters.
    preprocessing : str
        Input size, interpolation, mean and standard deviation.

    Examples
    --------
    >>> built_with = Fingerprint("ViT-B-32:openai", "3f5d0c1a", "squash 224 bicubic")
    >>> built_with.matches(Fingerprint("my-copy.pt", "3f5d0c1a", "squash 224 bicubic"))
    True
    """

    name: str
    weights: str
    preprocessing: str

    def matches(self, other: Fingerprint) -> bool:
        """Return whether embeddings of the two encoders are comparable."""
        return (self.weights, self.preprocessing) == (other.weights, other.preprocessing)

    def as_dict(self) -> dict[str, str]:
        """Return plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name} ({self.weights}, {self.preprocessing})"


class Encoder(Protocol):
    """Anything that embeds regions and phrases in one space.

    Attributes
    ----------
    fingerprint : Fingerprint
        Recorded in every shard and checked whenever an index is opened.
    dimension : int
        Length d of an embedding.
    """

    fingerprint: Fingerprint
    dimension: int

    def encode_regions(
        self, images: Sequence[Image.Image], regions: Sequence[Regions]
    ) -> FloatArray:
        """Return an embedding of each region of each image.

        Parameters
        ----------
        images : sequence of m PIL images
            Mode RGB, upright.
        regions : sequence of m Regions
            Those of each image.

        Returns
        -------
        float32 array of shape (n, d)
            Unit length; all regions of the first image, then those of the second, and so on.
        """
        ...

    def encode_phrases(self, phrases: Sequence[str]) -> FloatArray:
        """Return an embedding of each phrase, a float32 array of shape (n, d) with unit length."""
        ...
