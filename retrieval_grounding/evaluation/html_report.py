"""The report as one self-contained page: tables, curves, and cases as pictures."""

from __future__ import annotations

import html
from collections.abc import Sequence

from ..core.errors import ImageError
from ..core.types import PathLike
from ..data.images import load_image
from ..search.render import draw_boxes, embed_image, missing_image, write_html
from .report import CURVE, Case, EvaluationReport, Table

__all__ = ["write_page"]


_TRUTH, _ANSWER = (20, 170, 60), (230, 30, 90)
_LINES = ("#7570b3", "#d95f02", "#1b9e77", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666")
_WIDTH, _HEIGHT, _MARGIN = 460, 300, 40

_STYLE = """
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: .9rem; }
th, td { padding: .15rem .7rem; text-align: right; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
tr + tr { border-top: 1px solid #8884; }
.wide { overflow-x: auto; }
.note { border-left: .3rem solid #e6ab02; padding-left: .7rem; }
.curves { display: flex; flex-wrap: wrap; gap: 2rem; }
svg { max-width: 100%; height: auto; }
svg text { font-size: 12px; fill: currentColor; }
.truth { color: rgb(20 170 60); } .answer { color: rgb(230 30 90); }
"""


def write_page(report: EvaluationReport, path: PathLike) -> None:
    """Write the report as one HTML page with everything inside; the cases' photographs are read.

    A photograph that cannot be read is said on the page.

    Raises
    ------
    GroundingError
        If the file cannot be written.
    """
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in report.notes)
    parts = [f"<p>{html.escape(report.summary)}</p>", notes]
    parts += [_table(table) for table in report.tables()[:2]]
    parts.append(f'<div class="curves">{_accuracy_curves(report)}{_reliability(report)}</div>')
    parts += [_table(table) for table in report.tables()[2:]]
    key = '<b class="truth">green: truth</b>, <b class="answer">red: answer</b>'
    shown = html.escape(report.shown)
    parts.append(_cases(f"Best cases of {shown}", key, report.best))
    worst = f"Worst cases of {shown}, where a better region was there"
    parts.append(_cases(worst, key, report.worst))
    write_html(path, f"Evaluation on {report.source}", "\n".join(parts), _STYLE)


def _table(table: Table) -> str:
    header = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    title = html.escape(table.title)
    return f'<h2>{title}</h2>\n<div class="wide"><table><tr>{header}</tr>\n{rows}</table></div>'


def _accuracy_curves(report: EvaluationReport) -> str:
    lines = {
        name: list(zip(CURVE, figures.curve, strict=True))
        for name, figures in report.figures.items()
    }
    return _chart("Accuracy by IoU threshold", "IoU", "accuracy", lines)


def _reliability(report: EvaluationReport) -> str:
    lines = {
        name: [(part.probability, part.frequency) for part in figures.reliability]
        for name, figures in report.figures.items()
        if figures.reliability
    }
    if not lines:
        return ""
    lines = {"perfect": [(0.0, 0.0), (1.0, 1.0)]} | lines
    return _chart("Reliability", "probability shown", "share that was right", lines)


def _chart(
    title: str, x_name: str, y_name: str, lines: dict[str, list[tuple[float, float]]]
) -> str:
    """Return an inline SVG of lines in the unit square."""
    left, top, width, height = _MARGIN, 10, _WIDTH - _MARGIN - 10, _HEIGHT - _MARGIN - 10

    def place(x: float, y: float) -> str:
        return f"{left + x * width:.1f},{top + (1 - y) * height:.1f}"

    marks = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = left + tick * width, top + (1 - tick) * height
        marks.append(
            f'<path d="M{place(0, tick)} L{place(1, tick)} M{place(tick, 0)} L{place(tick, 1)}" '
            'stroke="#8884"/>'
            f'<text x="{left - 5}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
            f'<text x="{x:.1f}" y="{top + height + 15}" text-anchor="middle">{tick:g}</text>'
        )
    keys = []
    for number, (name, points) in enumerate(lines.items()):
        color = _LINES[number % len(_LINES)]
        path = " ".join(place(x, y) for x, y in points)
        marks.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        keys.append(f'<span style="color:{color}">■</span> {html.escape(name)}')
    middle, bottom = left + width / 2, top + height + 32
    return (
        f"<figure><figcaption><b>{title}</b> ({y_name} over {x_name})</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{title}">'
        f'{"".join(marks)}<text x="{middle:.0f}" y="{bottom}" text-anchor="middle">{x_name}</text>'
        f"</svg><figcaption>{' &nbsp; '.join(keys)}</figcaption></figure>"
    )


def _cases(title: str, key: str, cases: Sequence[Case]) -> str:
    figures = "\n".join(_figure(case) for case in cases) or "<p>None.</p>"
    return f'<h2>{title}</h2>\n<p>{key}</p>\n<div class="hits">\n{figures}\n</div>'


def _figure(case: Case) -> str:
    try:
        image = load_image(case.image, case.content_hash)
        drawn = draw_boxes(image, [(case.truth, _TRUTH), (case.answer, _ANSWER)])
        picture = embed_image(drawn, case.phrase)
    except ImageError as error:
        picture = missing_image(error)
    caption = (
        f"{html.escape(case.phrase)}<br><b>IoU {case.iou:.2f}</b>, best region {case.oracle:.2f}"
        f"<br>{html.escape(case.image)}"
    )
    return f"<figure>\n{picture}\n<figcaption>{caption}</figcaption>\n</figure>"
