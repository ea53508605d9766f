"""The options of fine-tuning a CLIP model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ...core.errors import GroundingError

__all__ = ["ClipTuningOptions"]

_SMALL_TOWER = 20_000_000
_LORA_RATE, _SMALL_RATE, _LARGE_RATE = 5e-4, 1e-4, 1e-5


@dataclass(frozen=True)
class ClipTuningOptions:
    """How to fine-tune a CLIP model.

    Parameters
    ----------
    steps : int
        Updates of the weights.
    batch_images : int
        Images in a batch. Each brings its regions, and the phrases for them.
    accumulate : int
        Batches whose gradients are added up for one update.
    full : bool
        Train the chosen layers themselves, not low-rank adapters (LoRA) beside them.
    rank : int
        Rank of the adapters.
    lr : float or None
        Peak learning rate of the image tower's layers: it warms up over the first tenth of the
        steps and follows a cosine down to a hundredth. None is 5e-4 with adapters; without, 1e-4 if
        the image tower has less than 20 million parameters, else 1e-5.
    layers : int or None
        How many of the image tower's last blocks are trained; None is a quarter. What the others
        compute is cached on disk.
    max_regions : int
        Regions of an image that are used, at most: the whole image, boxes of expressions, and
        detections, the surest first.
    seed : int
        Seed of every random choice.
    progress : bool or None
        Whether to show progress bars; None shows them on a terminal.

    Raises
    ------
    GroundingError
        If a value is out of range.

    Examples
    --------
    >>> ClipTuningOptions(steps=100).learning_rate(image_parameters=3_000_000)
    0.0005
    """

    steps: int = 300
    batch_images: int = 16
    accumulate: int = 1
    full: bool = False
    rank: int = 16
    lr: float | None = None
    layers: int | None = None
    max_regions: int = 20
    seed: int = 0
    progress: bool | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_images", "accumulate", "rank"):
            if getattr(self, name) < 1:
                raise GroundingError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_regions < 4:
            raise GroundingError(f"max_regions must be at least 4, not {self.max_regions}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise GroundingError(f"lr must be above 0, not {self.lr}")
        if self.layers is not None and self.layers < 1:
            raise GroundingError(f"layers must be at least 1, not {self.layers}")

    def learning_rate(self, image_parameters: int) -> float:
        """Return the peak learning rate for an image tower of this many parameters."""
        if self.lr is not None:
            return self.lr
        if not self.full:
            return _LORA_RATE
        return _SMALL_RATE if image_parameters < _SMALL_TOWER else _LARGE_RATE

    def as_dict(self) -> dict[str, Any]:
        """Return what the result depends on, as plain values."""
        return {name: value for name, value in asdict(self).items() if name != "progress"}
