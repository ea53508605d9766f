"""What an evaluation found: figures, their tables, and cases to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..core.text import counted
from ..core.types import Box
from .metrics import Estimate, ReliabilityBin

__all__ = ["CURVE", "RECALLS", "Case", "EvaluationReport", "Figures", "Slice", "Table"]


CURVE = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""IoU thresholds of the accuracy curve."""

RECALLS = (1, 5, 10)
"""Ranks of BoxRecall."""

SEEN_BY_COCO = (
    "A detector trained on COCO, as every published YOLO is, has seen the photographs of "
    "RefCOCO, RefCOCO+ and RefCOCOg with all their boxes: there its boxes, and with them every "
    "figure, are better than on photographs of your own."
)

_DASH = "–"


@dataclass(frozen=True)
class Figures:
    """Figures of one way to answer.

    Parameters
    ----------
    mean_iou, accuracy : Estimate
        Mean IoU, and Acc@0.5: the share of answers with an IoU of at least 0.5.
    curve : sequence of float
        Accuracy at the thresholds of `CURVE`.
    mean_iou_gain, accuracy_gain : Estimate or None
        Paired differences from the baseline, where there is one.
    given_box : float or None
        Share of the right region chosen, where one region covers the object.
    box_recall : mapping of int to float, or None
        Share of phrases with the right box in one of the k best images.
    auroc : float or None
        Present against absent phrases.
    calibration_error : float or None
        Expected calibration error of the probabilities, if there are any.
    reliability : sequence of ReliabilityBin
        Their reliability curve.
    missing : int
        Expressions without an answer, which count as IoU 0.
    """

    mean_iou: Estimate
    accuracy: Estimate
    curve: Sequence[float]
    mean_iou_gain: Estimate | None = None
    accuracy_gain: Estimate | None = None
    given_box: float | None = None
    box_recall: Mapping[int, float] | None = None
    auroc: float | None = None
    calibration_error: float | None = None
    reliability: Sequence[ReliabilityBin] = ()
    missing: int = 0

    def accuracy_at(self, threshold: float) -> float:
        """Return the share of answers with at least this IoU; one of `CURVE`."""
        return self.curve[CURVE.index(threshold)]


@dataclass(frozen=True)
class Slice:
    """Mean IoU and Acc@0.5 on a part of the expressions, by way to answer."""

    expressions: int
    mean_iou: Mapping[str, Estimate]
    accuracy: Mapping[str, Estimate]


@dataclass(frozen=True)
class Case:
    """One expression with its answer, to look at.

    Parameters
    ----------
    image, content_hash, phrase : str
        Path, hash of the file that was indexed, and phrase.
    truth, answer : tuple of 4 float
        Corners in pixels of the image.
    iou, oracle : float
        Overlap of the answer, and of the best region there was.
    """

    image: str
    content_hash: str
    phrase: str
    truth: Box
    answer: Box
    iou: float
    oracle: float


@dataclass(frozen=True)
class Table:
    """A title, column names, and rows of text."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class EvaluationReport:
    """What an evaluation found.

    Parameters
    ----------
    source : str
        The file of expressions.
    expressions, images : int
        How many were evaluated.
    skipped : mapping of str to int
        Expressions of the file that were not, by reason.
    figures : mapping of str to Figures
        By way to answer: ``largest box``, the matchers, others' predictions, and ``oracle``, which
        takes the best region there is.
    slices : mapping of str to Slice
        The same on parts of the expressions.
    baseline : str or None
        The matcher from which gains are counted.
    shown : str
        The matcher of `best` and `worst`.
    gallery_phrases : int
        Phrases that were searched in all `images`.
    covered : int
        Expressions whose object a region covers (IoU at least 0.5).
    best, worst : sequence of Case
        At most one for each image.
    """

    source: str
    expressions: int
    images: int
    skipped: Mapping[str, int]
    figures: Mapping[str, Figures]
    slices: Mapping[str, Slice]
    baseline: str | None
    shown: str
    gallery_phrases: int
    covered: int
    best: Sequence[Case] = field(default=(), repr=False)
    worst: Sequence[Case] = field(default=(), repr=False)

    @property
    def notes(self) -> list[str]:
        """What must be known to read the figures."""
        return [
            "Brackets are 95 % intervals by bootstrap over images; gains are paired.",
            SEEN_BY_COCO,
        ]

    @property
    def summary(self) -> str:
        """What was evaluated, as one line."""
        left_out = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
        about = f"{counted(self.expressions, 'expression')} about {counted(self.images, 'image')}"
        return f"{self.source}: {about}" + (f"; left out: {left_out}" if left_out else "")

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON; what is not known is None."""
        plain: dict[str, Any] = _plain(asdict(self))
        plain["thresholds"] = list(CURVE)
        plain["notes"] = self.notes
        return plain

    def tables(self) -> list[Table]:
        """Return the figures as tables of text."""
        return [self._grounding(), self._ranking(), *self._slices()]

    def _grounding(self) -> Table:
        gain = f"gain on {self.baseline}" if self.baseline else "gain"
        header = ("", "n", "mean IoU", gain, "Acc@0.25", "Acc@0.5", "Acc@0.75", "no answer")
        rows = [
            (
                name,
                str(self.expressions),
                _interval(f.mean_iou),
                _interval(f.mean_iou_gain, signed=True),
                _number(f.accuracy_at(0.25)),
                _interval(f.accuracy),
                _number(f.accuracy_at(0.75)),
                str(f.missing) if f.missing else _DASH,
            )
            for name, f in self.figures.items()
        ]
        return Table("Grounding: the best box in the given image", header, rows)

    def _ranking(self) -> Table:
        recalls = tuple(f"BoxRecall@{k}" for k in RECALLS)
        header = ("", "given-box top-1", *recalls, "present/absent AUROC", "ECE")
        rows = [
            (
                name,
                _number(f.given_box),
                *(_number((f.box_recall or {}).get(k)) for k in RECALLS),
                _number(f.auroc),
                _number(f.calibration_error),
            )
            for name, f in self.figures.items()
            if f.auroc is not None or f.given_box is not None
        ]
        title = (
            f"Ranking: given boxes ({counted(self.covered, 'expression')}), gallery "
            f"({counted(self.gallery_phrases, 'phrase')} in {counted(self.images, 'image')}), "
            "and confidence"
        )
        return Table(title, header, rows)

    def _slices(self) -> list[Table]:
        tables = []
        for title, kind in (("Mean IoU by slice", "mean_iou"), ("Acc@0.5 by slice", "accuracy")):
            rows = [
                (
                    name,
                    str(part.expressions),
                    *(_interval(getattr(part, kind)[way]) for way in self.figures),
                )
                for name, part in self.slices.items()
            ]
            tables.append(Table(title, ("", "n", *self.figures), rows))
        return tables


def _number(value: float | None) -> str:
    return _DASH if value is None or math.isnan(value) else f"{value:.3f}"


def _interval(estimate: Estimate | None, signed: bool = False) -> str:
    if estimate is None or math.isnan(estimate.value):
        return _DASH
    style = "+.3f" if signed else ".3f"
    return f"{estimate.value:{style}} [{estimate.low:{style}}, {estimate.high:{style}}]"


def _plain(value: Any) -> Any:
    """Make a value fit for JSON: no NaN, string keys."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
