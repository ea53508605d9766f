"""The ``Detector`` protocol and its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from ..core.errors import ModelError
from ..core.regions import Regions

__all__ = ["Detector", "DetectorSettings"]

_STRIDE = 32


class Detector(Protocol):
    """Anything that finds regions.

    Attributes
    ----------
    fingerprint : str
        Identifies weights and settings. Regions of two detectors with the same fingerprint may
        lie in one index.
    """

    fingerprint: str

    def detect(self, images: Sequence[Image.Image]) -> list[Regions]:
        """Return the regions of each RGB image; region 0 is the whole image."""
        ...


@dataclass(frozen=True)
class DetectorSettings:
    """What a detector keeps. The defaults favour recall: the matcher sorts out the rest.

    Parameters
    ----------
    confidence : float
        Boxes below this score are dropped, 0 to 1.
    iou : float
        Of boxes of one class that overlap by more than this, the best is kept, 0 to 1.
    max_boxes : int
        At most so many boxes an image, besides the whole image.
    image_size : int or None
        Longest side in pixels at which the network sees an image, a multiple of 32; None takes
        the size at which the weights were trained.
    """

    confidence: float = 0.05
    iou: float = 0.6
    max_boxes: int = 50
    image_size: int | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.confidence <= 1 and 0 <= self.iou <= 1):
            raise ModelError("a detector's confidence and IoU must lie between 0 and 1")
        if self.max_boxes < 0:
            raise ModelError("the number of boxes must be at least 0")
        if self.image_size is not None and (self.image_size < 32 or self.image_size % _STRIDE):
            raise ModelError("a detector's image size must be a multiple of 32")
