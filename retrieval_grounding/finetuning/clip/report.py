"""What a fine-tuning did, as values and as a model card."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import isnan
from typing import Any

from ...core.text import counted
from ...core.version import __version__
from .measure import Gain

__all__ = ["ClipTuning", "gain_lines", "model_card"]


@dataclass
class ClipTuning:
    """What a fine-tuning did.

    Parameters
    ----------
    output : str
        Folder of the new model; it does not exist if `kept_original`.
    started_from : str
        The model that was fine-tuned.
    images : tuple of 3 int
        Images for training, for choosing the share, and for the figures.
    phrases : int
        Phrases for training.
    unusable : dict of str to str
        Images whose files are gone, damaged or changed, by path, and why.
    options : dict
        Of the training.
    losses : list of float
        One for each step.
    share : float
        How much of the new weights is kept, 0 to 1; the rest are the original ones.
    reason : str
        Why the original is kept; empty if it is not.
    shares : dict of float to dict
        The figures of each share that was tried, on the images for choosing; 0 is the original.
    gains : dict of str to Gain
        Measures before and after, on the images for the figures. If the original is kept, those of
        the new weights alone.
    weights : str
        Hash of the new weights, the main part of the fingerprint.
    skipped : dict of str to int
        Expressions that could not be used, by reason.
    seconds : float
        Duration.
    """

    output: str
    started_from: str
    images: tuple[int, int, int]
    phrases: int
    unusable: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    share: float = 0.0
    reason: str = ""
    shares: dict[float, dict[str, float]] = field(default_factory=dict)
    gains: dict[str, Gain] = field(default_factory=dict)
    weights: str = ""
    skipped: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def kept_original(self) -> bool:
        """Whether nothing was written, because the new weights are not better or forget."""
        return bool(self.reason)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; a figure that could not be measured is None."""
        shares = {
            share: {name: None if isnan(value) else value for name, value in figures.items()}
            for share, figures in self.shares.items()
        }
        return asdict(self) | {"shares": shares, "kept_original": self.kept_original}


def gain_lines(report: ClipTuning) -> list[tuple[str, str, str, str, str]]:
    """Return a row for each measure: its name, before, after, gain with interval, and how many."""
    return [
        (
            name,
            f"{gain.before.value:.3f}",
            f"{gain.after.value:.3f}",
            f"{gain.gain.value:+.3f} [{gain.gain.low:+.3f}, {gain.gain.high:+.3f}]",
            f"{gain.count} about {counted(gain.images, 'image')}",
        )
        for name, gain in report.gains.items()
    ]


def model_card(report: ClipTuning) -> str:
    """Return the text of README.md in the folder of the model."""
    rows = "\n".join(f"| {' | '.join(line)} |" for line in gain_lines(report))
    training, choosing, test = report.images
    options = ", ".join(f"{name} {value}" for name, value in report.options.items())
    start = report.started_from.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return f"""---
library_name: open_clip
tags: [clip, visual-grounding]
---
# {start}, fine-tuned on regions and phrases

An open_clip model that `retrieval-grounding finetune clip` (release {__version__}) has made from
`{start}`: {1 - report.share:.2f} of the original weights and {report.share:.2f} of weights that
were trained with {counted(report.phrases, "phrase")} about regions of
{counted(training, "image")}. The share was chosen on {counted(choosing, "other image")}, so that
naming objects and finding captions lose at most a point.

On {counted(test, "further image")}, by cosine alone, with 95% intervals:

| measure | before | after | gain | of |
|---|---|---|---|---|
{rows}

Use it with `retrieval-grounding build PHOTOS --clip FOLDER`, or renew an index with
`retrieval-grounding reembed INDEX --clip FOLDER`. Weights: `{report.weights}`.

The licence of the original weights applies, and the terms of the images and phrases that it was
trained with.

Options: {options}.
"""
