"""The figures of an evaluation as tables of text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .figures import RECALLS, Figures, Slice
from .metrics import Estimate

__all__ = [
    "Table",
    "gallery_table",
    "grounding_table",
    "joined_table",
    "ranking_table",
    "slice_tables",
]

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


def gallery_table(figures: Mapping[str, Figures], title: str, baseline: str | None) -> Table:
    """Return recalls over all images, for the methods that have them."""
    gain = f"gain over {baseline}" if baseline else "gain"
    header = (
        "",
        *(f"R@{k}" for k in RECALLS),
        f"R@{RECALLS[-1]} {gain}",
        *(f"BoxRecall@{k}" for k in RECALLS),
        f"BoxRecall@{RECALLS[-1]} {gain}",
    )
    rows = [
        (
            name,
            *(_interval((f.image_recall or {}).get(k)) for k in RECALLS),
            _interval((f.image_recall_gain or {}).get(RECALLS[-1]), signed=True),
            *(_interval((f.box_recall or {}).get(k)) for k in RECALLS),
            _interval((f.box_recall_gain or {}).get(RECALLS[-1]), signed=True),
        )
        for name, f in figures.items()
        if f.image_recall is not None
    ]
    return Table(title, header, rows)


def ranking_table(figures: Mapping[str, Figures], title: str) -> Table:
    """Return the figures of given boxes and confidence, for the methods that have them."""
    header = ("", "given-box top-1", "present/absent AUROC", "ECE")
    rows = [
        (name, _number(f.given_box), _number(f.auroc), _number(f.calibration_error))
        for name, f in figures.items()
        if f.auroc is not None or f.given_box is not None
    ]
    return Table(title, header, rows)


def joined_table(tables: Mapping[str, Table]) -> Table:
    """Return tables with the same columns as one, with their names in a column of its own.

    Examples
    --------
    >>> one, two = Table("T", ("", "n"), [("a", "1")]), Table("T", ("", "n"), [("a", "2")])
    >>> joined_table({"x": one, "y": two}).rows
    [('x', 'a', '1'), ('y', 'a', '2')]
    """
    first = next(iter(tables.values()))
    rows = [(name, *row) for name, table in tables.items() for row in table.rows]
    return Table(first.title, ("index", *first.header), rows)


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
