"""The report of a comparison of detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..core.bootstrap import Estimate
from ..core.text import counted
from .tables import Table

__all__ = ["COUNTS", "ProposalCurve", "ProposalReport"]

COUNTS = (1, 3, 5, 10, 20, 30, 50)
"""Numbers of boxes an image, at most, at which detectors are compared."""

_NOTES = (
    "Recall: the share of true boxes that one of the first k boxes covers (IoU of at least 0.5). "
    "Acc: the share that the matcher finds among the first k boxes and the whole image. Groups are "
    "left out.",
    "Brackets are 95% intervals by bootstrap over images; gains over the boxes of the index are "
    "paired.",
    "A detector trained on COCO has seen the photographs of RefCOCO, RefCOCO+ and RefCOCOg with all"
    " their boxes; compare on photographs such as your own.",
)


@dataclass(frozen=True)
class ProposalCurve:
    """What a detector's first k boxes are worth, for each k of :data:`COUNTS`.

    Parameters
    ----------
    name : str
        The detector, or ``"index"``.
    boxes : float
        Mean number of boxes an image.
    recall, accuracy : list of Estimate
        Oracle recall@0.5, and Acc@0.5 of the matcher.
    recall_gain, accuracy_gain : list of Estimate, or None
        Over the boxes of the index.
    """

    name: str
    boxes: float
    recall: list[Estimate]
    accuracy: list[Estimate]
    recall_gain: list[Estimate] | None = None
    accuracy_gain: list[Estimate] | None = None


@dataclass(frozen=True)
class ProposalReport:
    """A comparison of detectors, returned by :meth:`Index.compare_detectors`.

    Parameters
    ----------
    source : str
        The file of expressions.
    expressions, images : int
        How many were evaluated.
    skipped : mapping of str to int
        Number of expressions that were left out, by reason.
    matcher : str
        What chose among the boxes.
    curves : list of ProposalCurve
        The index first.
    """

    source: str
    expressions: int
    images: int
    skipped: Mapping[str, int]
    matcher: str
    curves: list[ProposalCurve]

    @property
    def notes(self) -> list[str]:
        """What to know before reading the figures."""
        return list(_NOTES)

    @property
    def summary(self) -> str:
        """What was evaluated, as one line."""
        left_out = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
        about = f"{counted(self.expressions, 'expression')} about {counted(self.images, 'image')}"
        return f"{self.source}: {about}" + (f"; left out: {left_out}" if left_out else "")

    def tables(self) -> list[Table]:
        """Return recall, accuracy and gains as tables of text."""
        header = ("", "boxes/image", *(f"{count}" for count in COUNTS))
        tables = [
            Table(
                "Recall@0.5 by boxes an image",
                header,
                [_line(curve, curve.recall) for curve in self.curves],
            ),
            Table(
                f"Acc@0.5 of {self.matcher} by boxes an image",
                header,
                [_line(curve, curve.accuracy) for curve in self.curves],
            ),
        ]
        others = [curve for curve in self.curves if curve.recall_gain and curve.accuracy_gain]
        if others:
            last = len(COUNTS) - 1
            rows = [
                (curve.name, _gain(curve.recall_gain, last), _gain(curve.accuracy_gain, last))
                for curve in others
            ]
            title = f"Gain over the boxes of the index, {COUNTS[last]} boxes"
            tables.append(Table(title, ("", "recall@0.5", "Acc@0.5"), rows))
        return tables

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return asdict(self) | {"counts": list(COUNTS), "notes": self.notes}


def _line(curve: ProposalCurve, estimates: Sequence[Estimate]) -> tuple[str, ...]:
    return (curve.name, f"{curve.boxes:.1f}", *(f"{e.value:.3f}" for e in estimates))


def _gain(estimates: Sequence[Estimate] | None, column: int) -> str:
    assert estimates is not None
    gain = estimates[column]
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
