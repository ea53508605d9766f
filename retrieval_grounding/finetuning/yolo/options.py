"""The settings of a fine-tuning of YOLO."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ...core.errors import GroundingError
from ...models.detector import DetectorSettings

__all__ = ["YoloTuningOptions"]


@dataclass(frozen=True)
class YoloTuningOptions:
    """The settings of a fine-tuning of YOLO.

    Parameters
    ----------
    epochs : int
        Passes over the training images.
    batch_images : int
        Images in a batch.
    lr : float
        Peak learning rate of AdamW.
    image_size : int or None
        Longest side of the network's input, a multiple of 32; None for the detector's own.
    class_agnostic : bool
        Train one class, ``object``, instead of the detector's own and the boxes' categories.
    seed : int
        For all random choices.
    progress : bool or None
        Show progress; None shows it on a terminal.
    """

    epochs: int = 20
    batch_images: int = 16
    lr: float = 5e-4
    image_size: int | None = None
    class_agnostic: bool = False
    seed: int = 0
    progress: bool | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_images < 2 or not 0 < self.lr <= 1:
            raise GroundingError(
                "fine-tuning needs at least one epoch, two images in a batch, and a learning rate "
                "above 0 and up to 1"
            )
        DetectorSettings(image_size=self.image_size)  # checks it

    def as_dict(self) -> dict[str, Any]:
        """Return what the result depends on, as plain values."""
        return {name: value for name, value in asdict(self).items() if name != "progress"}
