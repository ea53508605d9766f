"""The ``Detector`` protocol and its settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from ..core.errors import ModelError
from ..core.regions import Regions

__all__ = ["Detector", "DetectorSettings", "same_detector"]

_STRIDE = 32
_MAX_IMAGE_SIZE = 1 << 14
_CHECKPOINT = re.compile(r"(?P<file>.*) (?P<rest>[0-9a-f]{16} .*=.*)", re.DOTALL)


class Detector(Protocol):
    """Anything that finds regions.

    Attributes
    ----------
    fingerprint : str
        Identifies weights and settings. An index holds the regions of one fingerprint only.
    """

    fingerprint: str

    def detect(self, images: Sequence[Image.Image]) -> list[Regions]:
        """Return the regions of each image.

        Parameters
        ----------
        images : sequence of PIL images
            Mode RGB, upright.

        Returns
        -------
        list of Regions
            One for each image; region 0 is the whole image (see `Regions.whole_image`).
        """
        ...


@dataclass(frozen=True)
class DetectorSettings:
    """What a detector keeps. The defaults favor recall; the matcher rejects what does not fit.

    Parameters
    ----------
    confidence : float
        Minimum score of a box, 0 to 1.
    iou : float
        IoU threshold of non-maximum suppression, 0 to 1.
    max_boxes : int
        Maximum number of boxes per image, not counting the whole image and groups.
    image_size : int or None
        Longest side in pixels of the network's input, a multiple of 32; None takes the size that
        the weights were trained with.
    groups : bool
        Whether to add a region around all things of a label (see `with_groups`).
    classes : sequence of str or None
        Names to detect, of those that the weights know; None for all.
    """

    confidence: float = 0.05
    iou: float = 0.6
    max_boxes: int = 50
    image_size: int | None = None
    groups: bool = True
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.confidence <= 1 and 0 <= self.iou <= 1):
            raise ModelError("a detector's confidence and IoU must be between 0 and 1")
        if self.max_boxes < 0:
            raise ModelError("the number of boxes must be at least 0")
        if self.classes is not None:
            chosen = tuple(sorted(set(map(str, self.classes))))  # JSON has lists
            if not chosen:
                raise ModelError("a choice of classes needs at least one; None detects all")
            object.__setattr__(self, "classes", chosen)
        size = self.image_size
        if size is not None and (size % _STRIDE or not _STRIDE <= size <= _MAX_IMAGE_SIZE):
            raise ModelError(
                f"a detector's image size must be a multiple of {_STRIDE}, up to {_MAX_IMAGE_SIZE}"
            )


def same_detector(first: str, second: str) -> bool:
    """Return whether two fingerprints stand for the same weights and settings.

    That of a checkpoint begins with the name of its file, which may have been renamed.

    Examples
    --------
    >>> same_detector("yolo11n 0123456789abcdef iou=0.6", "mine 0123456789abcdef iou=0.6")
    True
    >>> same_detector("yolo11n 0123456789abcdef iou=0.6", "yolo11n 0123456789abcdef iou=0.7")
    False
    """
    return _without_file(first) == _without_file(second)


def _without_file(fingerprint: str) -> str:
    found = _CHECKPOINT.fullmatch(fingerprint)
    return found["rest"] if found else fingerprint
