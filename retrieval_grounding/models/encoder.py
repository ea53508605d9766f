"""The ``Encoder`` protocol: regions and phrases embedded in one space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..core.regions import WHOLE_IMAGE, Regions

__all__ = ["Encoder", "Fingerprint", "embed_labels"]


FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Fingerprint:
    """What must agree between the encoder that built an index and the one that queries it.

    Parameters
    ----------
    name : str
        How the weights were asked for; for messages only, two names may mean the same weights.
    weights : str
        Hash over all parameters.
    preprocessing : str
        Input size, interpolation, mean and standard deviation.
    """

    name: str
    weights: str
    preprocessing: str

    def matches(self, other: Fingerprint) -> bool:
        """Tell whether embeddings of both are comparable."""
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
        Recorded in every shard and checked at each opening.
    dimension : int
        Length d of an embedding.
    """

    fingerprint: Fingerprint
    dimension: int

    def encode_regions(
        self, images: Sequence[Image.Image], regions: Sequence[Regions]
    ) -> FloatArray:
        """Return unit-length float32 embeddings (n, d) of all regions of all images, in order."""
        ...

    def encode_phrases(self, phrases: Sequence[str]) -> FloatArray:
        """Return unit-length float32 embeddings (n, d) of the phrases."""
        ...


def embed_labels(encoder: Encoder, names: Sequence[str]) -> FloatArray:
    """Embed a detector's class names as phrases (k, d); that of whole images gives zeros.

    A name that is no phrase (some data sets have empty ones) gives zeros too.
    """
    embeddings = np.zeros((len(names), encoder.dimension), np.float32)
    named = [row for row, name in enumerate(names) if name != WHOLE_IMAGE and name.strip()]
    if named:
        embeddings[named] = encoder.encode_phrases([names[row] for row in named])
    return embeddings
