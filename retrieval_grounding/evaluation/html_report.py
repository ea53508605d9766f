"""The report as one self-contained HTML page: tables, curves, and cases with pictures."""

from __future__ import annotations

import html
from collections.abc import Sequence

from ..core.errors import ImageError
from ..core.html_table import table_html
from ..core.types import PathLike
from ..data.images import load_image
from ..search.draw import draw_boxes
from ..search.html_page import embed_image, missing_image, write_html
from .cases import Case
from .charts import accuracy_curves, reliability_curves
from .report import EvaluationReport
from .tables import Table

__all__ = ["write_report"]


_TRUTH, _ANSWER = (20, 170, 60), (230, 30, 90)

_STYLE = """
h2 { margin-top: 2rem; }
.hits { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); }
figure { margin: 0; }
img, .missing { width: 100%; height: 15rem; object-fit: contain; background: var(--shade); }
img { border-radius: .4rem; }
.missing { display: grid; place-content: center; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; }
b { font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: .9rem; }
th, td { padding: .15rem .7rem; text-align: right; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
tr + tr { border-top: 1px solid var(--line); }
.wide { overflow-x: auto; }
.note { border-left: .3rem solid #e6ab02; padding-left: .7rem; }
.curves { display: flex; flex-wrap: wrap; gap: 2rem; }
svg { max-width: 100%; height: auto; }
.truth { color: rgb(20 170 60); } .answer { color: rgb(230 30 90); }
"""


def write_report(report: EvaluationReport, path: PathLike) -> None:
    """Write the report as one HTML page that needs no other file.

    The photographs of the cases are read. Where that fails, the page shows the reason.

    Raises
    ------
    GroundingError
        If the file cannot be written.
    """
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in report.notes)
    parts = [f"<p>{html.escape(report.summary)}</p>", notes]
    parts += [_table(table) for table in report.tables()[:3]]
    curves = accuracy_curves(report.figures) + reliability_curves(report.figures)
    parts.append(f'<div class="curves">{curves}</div>')
    parts += [_table(table) for table in report.tables()[3:]]
    key = '<b class="truth">green: truth</b>, <b class="answer">red: prediction</b>'
    shown = html.escape(report.shown)
    parts.append(_cases(f"Best cases of {shown}", key, report.best))
    worst = f"Worst cases of {shown}, where a better region was available"
    parts.append(_cases(worst, key, report.worst))
    write_html(path, f"Evaluation on {report.source}", "\n".join(parts), _STYLE)


def _table(table: Table) -> str:
    shown = table_html(table.header, table.rows)
    return f'<h2>{html.escape(table.title)}</h2>\n<div class="wide">{shown}</div>'


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
