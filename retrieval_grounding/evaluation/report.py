"""The report of an evaluation."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..core.html_table import table_html
from ..core.text import counted
from .cases import Case
from .charts import accuracy_curves, reliability_curves
from .figures import CURVE, Figures, Slice
from .results import ExpressionResults
from .tables import Table, gallery_table, grounding_table, ranking_table, slice_tables

if TYPE_CHECKING:
    import pandas

__all__ = ["EvaluationReport"]

_NOTES = (
    "Brackets are 95% intervals by bootstrap over images; gains are paired.",
    "A detector trained on COCO, like every published YOLO, has seen the photographs of RefCOCO, "
    "RefCOCO+ and RefCOCOg with all their boxes. There, its boxes and therefore all figures are "
    "better than on your own photographs.",
)


@dataclass(frozen=True, repr=False)
class EvaluationReport:
    """The figures of an evaluation, by method, with cases to look at.

    Returned by :meth:`Index.evaluate`.

    Parameters
    ----------
    source : str
        The file of expressions.
    expressions, images : int
        How many were evaluated.
    skipped : mapping of str to int
        Number of expressions that were left out, by reason.
    figures : mapping of str to Figures
        By method: ``"largest box"``, each matcher, each file of predictions, and ``"oracle"``,
        which takes the region with the highest IoU. Each has ``mean_iou`` and ``accuracy``, both
        with ``value``, ``low`` and ``high``.
    slices : mapping of str to Slice
        Mean IoU and accuracy on parts of the expressions.
    baseline : str or None
        The matcher that gains are relative to.
    shown : str
        The matcher of `best` and `worst`.
    gallery_phrases : int
        Phrases that were searched for in all `images`.
    covered : int
        Expressions whose object a region covers (IoU of at least 0.5).
    trained_images : mapping of str to int
        Evaluated images that each matcher was trained on, as far as it has recorded them; only
        matchers with such images. Their figures are too good.
    best, worst : sequence of Case
        At most one for each image.
    results : ExpressionResults or None
        What each matcher answered to each expression.

    Examples
    --------
    ::

        report = rg.Index.open("indexes/coco").evaluate("refs.jsonl")
        print(report.summary)
        for name, figures in report.figures.items():
            print(name, figures.mean_iou.value, figures.accuracy.value)
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
    trained_images: Mapping[str, int] = field(default_factory=dict)
    best: Sequence[Case] = field(default=(), repr=False)
    worst: Sequence[Case] = field(default=(), repr=False)
    results: ExpressionResults | None = field(default=None, repr=False)

    @property
    def notes(self) -> list[str]:
        """What to know before reading the figures."""
        trained = [
            f"{name} was trained on {count} of the {counted(self.images, 'image')} evaluated here, "
            "so its figures are too good; evaluate on other images."
            for name, count in self.trained_images.items()
        ]
        return [*trained, *_NOTES]

    @property
    def summary(self) -> str:
        """What was evaluated, as one line."""
        left_out = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
        about = f"{counted(self.expressions, 'expression')} about {counted(self.images, 'image')}"
        return f"{self.source}: {about}" + (f"; left out: {left_out}" if left_out else "")

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain values for JSON; unknown values are None.

        `results`, which have a line for every expression, are not among them.
        """
        plain: dict[str, Any] = _plain(asdict(replace(self, results=None)))
        del plain["results"]
        plain["thresholds"] = list(CURVE)
        plain["notes"] = self.notes
        return plain

    def to_frame(self) -> pandas.DataFrame:
        """Return a data frame with one row for each expression and matcher.

        Its columns are ``image``, ``phrase``, ``split``, ``dataset``, ``category``, ``object_id``,
        ``matcher``; the corners of the chosen box, ``x1, y1, x2, y2``, and of the true one,
        ``truth_x1`` to ``truth_y2``, in the pixels of the file of expressions; and ``score``,
        ``iou``, and ``oracle``, the IoU of the best region.

        Raises
        ------
        GroundingError
            If pandas is not installed.

        Examples
        --------
        ::

            frame = report.to_frame()
            frame.pivot_table("iou", index="dataset", columns="matcher")
        """
        assert self.results is not None  # every evaluation sets it
        return self.results.to_frame()

    def tables(self) -> list[Table]:
        """Return the figures as tables of text: grounding, ranking, and two by slice."""
        gallery_title = (
            f"Gallery: {counted(self.gallery_phrases, 'phrase')} searched in "
            f"{counted(self.images, 'image')}"
        )
        ranking_title = f"Given boxes ({counted(self.covered, 'expression')}), and confidence"
        return [
            grounding_table(self.figures, self.expressions, self.baseline),
            gallery_table(self.figures, gallery_title, self.baseline),
            ranking_table(self.figures, ranking_title),
            *slice_tables(self.figures, self.slices),
        ]

    def __repr__(self) -> str:
        about = f"{counted(self.expressions, 'expression')}, {counted(self.images, 'image')}"
        means = (f"{name} {figures.mean_iou.value:.3f}" for name, figures in self.figures.items())
        return f"<EvaluationReport {self.source}: {about}; mean IoU: {', '.join(means)}>"

    def _repr_html_(self) -> str:
        """Show figures and curves in a notebook."""
        grounding, ranking = self.tables()[:2]
        shown = [f"<p>{html.escape(self.summary)}</p>"]
        for table in (grounding, ranking):
            title = html.escape(table.title)
            shown.append(f"<p><b>{title}</b></p>{table_html(table.header, table.rows)}")
        curves = accuracy_curves(self.figures) + reliability_curves(self.figures)
        style = "display: flex; flex-wrap: wrap; gap: 2em; font-size: 12px"
        return "\n".join([*shown, f'<div style="{style}">{curves}</div>'])


def _plain(value: Any) -> Any:
    """Return a value fit for JSON: None for NaN, strings for keys."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
