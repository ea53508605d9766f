"""What a fine-tuning of YOLO did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .recall import OracleGain

__all__ = ["YoloTuning"]


@dataclass
class YoloTuning:
    """What a fine-tuning of YOLO did.

    Parameters
    ----------
    output : str
        The new checkpoint; it has not been written if `kept_original`.
    started_from : str
        The detector that was fine-tuned.
    images : tuple of 2 int
        Images for training and held-out ones.
    boxes : tuple of 2 int
        Referred boxes on each.
    pseudo_boxes : int
        Boxes on the training images that the detector itself was sure of.
    classes : int
        Number of classes of the new detector.
    recall : list of OracleGain
        Oracle recall@0.5 of the held-out boxes, before and after.
    overlap : list of OracleGain
        Mean IoU of the held-out boxes with the best of the detector's, before and after.
    known : list of OracleGain
        Recall@0.5 of what the detector was sure of on the held-out images: what was forgotten.
    losses : list of float
        Mean loss of each epoch.
    reason : str
        Why the original is kept; empty if it is not.
    options : dict
        Of the training.
    skipped : dict of str to int
        Images and boxes that could not be used, by reason.
    seconds : float
        Duration.
    """

    output: str
    started_from: str
    images: tuple[int, int]
    boxes: tuple[int, int]
    pseudo_boxes: int
    classes: int
    recall: list[OracleGain] = field(default_factory=list)
    overlap: list[OracleGain] = field(default_factory=list)
    known: list[OracleGain] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    reason: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def kept_original(self) -> bool:
        """Whether nothing was written, because the new weights are no better."""
        return bool(self.reason)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self) | {"kept_original": self.kept_original}

    def lines(self) -> list[tuple[str, str, str, str]]:
        """Return a row of text for each figure: its name, before, after, gain with interval."""
        parts = [("recall@0.5", gain) for gain in self.recall]
        parts += [("best IoU", gain) for gain in self.overlap]
        parts += [("of what it knew", gain) for gain in self.known]
        return [
            (
                f"{name}, {gain.boxes} boxes",
                f"{gain.before.value:.3f}",
                f"{gain.after.value:.3f}",
                f"{gain.gain.value:+.3f} [{gain.gain.low:+.3f}, {gain.gain.high:+.3f}]",
            )
            for name, gain in parts
        ]
