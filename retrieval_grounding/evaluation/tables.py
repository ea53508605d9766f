"""The figures of an evaluation as tables of text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .figures import RECALLS, Figures, Slice
from .metrics import Estimate

__all__ = ["Table", "grounding_table", "ranking_table", "slice_tables"]

_DASH = "–"


@dataclass(frozen=True)
class Table:
    """A title, column names, and rows of text."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def grounding_table(
    figures: Mapping[str, Figures], expressions: int, baseline: str | None
) -> Table:
    """Return mean IoU and accuracies, one row for each method."""
    gain = f"gain over {baseline}" if baseline else "gain"
    header = ("", "n", "mean IoU", gain, "Acc@0.25", "Acc@0.5", "Acc@0.75", "missing")
    rows = [
        (
            name,
            str(expressions),
            _interval(f.mean_iou),
            _interval(f.mean_iou_gain, signed=True),
            _number(f.accuracy_at(0.25)),
            _interval(f.accuracy),
            _number(f.accuracy_at(0.75)),
            str(f.missing) if f.missing else _DASH,
        )
        for name, f in figures.items()
    ]
    return Table("Grounding: the best box in the given image", header, rows)


def ranking_table(figures: Mapping[str, Figures], title: str) -> Table:
    """Return the figures of ranking and confidence, for the methods that have them."""
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
        for name, f in figures.items()
        if f.auroc is not None or f.given_box is not None
    ]
    return Table(title, header, rows)


def slice_tables(figures: Mapping[str, Figures], slices: Mapping[str, Slice]) -> list[Table]:
    """Return mean IoU and Acc@0.5 by slice, one column for each method."""
    header = ("", "n", *figures)
    by_title = {
        "Mean IoU by slice": {name: part.mean_iou for name, part in slices.items()},
        "Acc@0.5 by slice": {name: part.accuracy for name, part in slices.items()},
    }
    return [
        Table(
            title,
            header,
            [
                (name, str(slices[name].expressions), *(_interval(own[m]) for m in figures))
                for name, own in estimates.items()
            ],
        )
        for title, estimates in by_title.items()
    ]


def _number(value: float | None) -> str:
    return _DASH if value is None or math.isnan(value) else f"{value:.3f}"


def _interval(estimate: Estimate | None, signed: bool = False) -> str:
    if estimate is None or math.isnan(estimate.value):
        return _DASH
    style = "+.3f" if signed else ".3f"
    return f"{estimate.value:{style}} [{estimate.low:{style}}, {estimate.high:{style}}]"
