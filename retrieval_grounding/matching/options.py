"""The options of matcher training."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import GroundingError

__all__ = ["TrainingOptions"]


@dataclass(frozen=True)
class TrainingOptions:
    """How to train a matcher.

    Parameters
    ----------
    epochs : int
        Maximum number of passes over the examples.
    patience : int
        Stop after this many epochs without a better one on the validation images.
    batch_size : int
        Approximate number of examples in a batch, up to eight of an image.
    lr : float
        Peak learning rate: it warms up over the first twentieth of the steps and then follows a
        cosine down to a hundredth.
    embedding_jitter : float
        Strength of random shifts of region embeddings, 0 for none. It makes up for an encoder that
        was trained on these very photographs and embeds them better than others; 0.35 is a good
        value there.
    negatives : int
        How many other images each phrase is compared with in a step; images that may show what it
        describes are not among them.
    seed : int
        Seed of every random choice.
    progress : bool or None
        Whether to show a progress bar; None shows one on a terminal.

    Raises
    ------
    GroundingError
        If a value is out of range.

    Examples
    --------
    >>> options = TrainingOptions(epochs=5, lr=1e-3)
    >>> options.batch_size
    160
    """

    epochs: int = 20
    patience: int = 5
    batch_size: int = 160
    lr: float = 1.5e-3
    embedding_jitter: float = 0.0
    negatives: int = 7
    seed: int = 0
    progress: bool | None = None

    def __post_init__(self) -> None:
        if min(self.epochs, self.patience, self.batch_size, self.negatives) < 1:
            raise GroundingError("epochs, patience, batch_size and negatives must be at least 1")
        if not (self.lr >= 0 and self.embedding_jitter >= 0):
            raise GroundingError("lr and embedding_jitter must be at least 0")
