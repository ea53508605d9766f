"""The report of a reproduction as JSON, Markdown and one HTML page."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.html_table import table_html
from ..core.output_file import write_output
from ..evaluation.html_report import REPORT_STYLE
from ..evaluation.tables import Table
from ..search.html_page import write_html

__all__ = ["report_tables", "write_reports"]

_INTRODUCTION = (
    "Brackets are 95% intervals by bootstrap over images; gains are paired differences on the "
    "same expressions. The course project's figure is the one that it published; its photographs, "
    "boxes and protocol are described as well as they are known: first sentence, one object of "
    "each image."
)


def write_reports(
    report: Mapping[str, Any], folder: Path, files: Mapping[str, Callable[[str], tuple[Path, Path]]]
) -> None:
    """Write ``report.json``, ``report.md`` and ``report.html`` into the folder of a run.

    Parameters
    ----------
    report : mapping
        As :func:`.reproduce.reproduce` returns it.
    folder : Path
        Of the run.
    files : mapping of str to callable
        For each index, what returns the files of an evaluation: :meth:`.variants.Variant.files`.

    Raises
    ------
    GroundingError
        If a file cannot be written.
    """
    write_output(folder / "report.json", json.dumps(report, indent=1, ensure_ascii=True).encode())
    write_output(folder / "report.md", _markdown(report).encode("utf-8", "backslashreplace"))
    parts = [f"<p>{html.escape(_about(report))}</p>", f'<p class="note">{_INTRODUCTION}</p>']
    parts += [_section(table) for table in report_tables(report)]
    curves = sorted(folder.glob("index-*/matchers/*-curve.png"))
    if curves:
        parts.append(f"<h2>Learning curves</h2>{''.join(map(_curve, curves))}")
    for variant, evaluations in report["evaluations"].items():
        for key in evaluations:
            body = files[variant](key)[1].read_text(encoding="utf-8")
            parts.append(f"<h1>{html.escape(_evaluation_title(report, variant, key))}</h1>{body}")
    write_html(folder / "report.html", _title(report), "\n".join(parts), REPORT_STYLE)


def report_tables(report: Mapping[str, Any]) -> list[Table]:
    """Return what sums a report up, as tables: the comparison, the steps, times, the machine."""
    tables = [
        _course(report),
        _steps(report),
        _data(report),
        _finetuning(report),
        _matchers(report),
    ]
    return [table for table in (*tables, _times(report), _machine(report)) if table.rows]


def _title(report: Mapping[str, Any]) -> str:
    return f"{report['title']}, reproduced"


def _about(report: Mapping[str, Any]) -> str:
    models, data = report["models"], report["data"]
    given = [f"{part} {models[part]}" for part in ("preset", "detector", "clip") if models[part]]
    limit = "" if report["limit"] is None else f" of {data['described']:,}"
    missing = f"; {data['missing']:,} described images were not found" if data["missing"] else ""
    return f"{', '.join(given)}; {data['images']:,}{limit} images{missing}"


def _course(report: Mapping[str, Any]) -> Table:
    """Return the course project's figure beside those of the same protocol."""
    header = ("", "mean IoU", "Acc@0.5")
    if report["reference"] is None:
        return Table("The course project and this run", header, [])
    rows = [("course project, as published", f"{report['reference']:.2f}", "")]
    for variant, evaluations in report["evaluations"].items():
        for key, evaluation in evaluations.items():
            if key.endswith("-course"):
                rows += [
                    (
                        f"{name} ({variant} models)",
                        _interval(figures["mean_iou"]),
                        _interval(figures["accuracy"]),
                    )
                    for name, figures in evaluation["figures"].items()
                ]
    return Table("The course project and this run: one sentence, one object an image", header, rows)


def _steps(report: Mapping[str, Any]) -> Table:
    rows = [
        (
            step["step"],
            str(step["expressions"]),
            _interval(step["mean_iou"]),
            "" if step["gain"] is None else _interval(step["gain"], "+.3f"),
            _interval(step["oracle_iou"]),
        )
        for step in report["steps"]
    ]
    header = ("", "n", "mean IoU", "gain over the step before", "oracle")
    return Table("What each step adds", header, rows)


def _data(report: Mapping[str, Any]) -> Table:
    rows = [
        (name, split or "(none)", f"{count['expressions']:,}", f"{count['images']:,}")
        for name, part in report["data"]["sets"].items()
        for split, count in part["splits"].items()
    ]
    return Table("Data", ("split by", "split", "expressions", "images"), rows)


def _finetuning(report: Mapping[str, Any]) -> Table:
    """Return what fine-tuning has changed on held-out images, and whether it was taken over."""
    rows = []
    for done in report["finetuning"].values():
        tuned = done["report"]
        gains = {
            f"{title}, {gain['boxes']} boxes": gain
            for title, figure in (("recall@0.5", "recall"), ("best IoU", "overlap"))
            for gain in tuned.get(figure, ())
        }
        for measure, gain in (gains | tuned.get("gains", {})).items():
            before, after = (f"{gain[key]['value']:.3f}" for key in ("before", "after"))
            rows.append((measure, before, after, _interval(gain["gain"], "+.3f"), tuned["reason"]))
    header = ("held out", "before", "after", "gain", "kept the original because")
    return Table("Fine-tuning", header, rows)


def _matchers(report: Mapping[str, Any]) -> Table:
    rows = []
    for fit in report["training"].values():
        first = fit["held_out"][0] if fit["held_out"] else None
        rows.append(
            (
                fit["name"] or "(diverged)",
                f"{fit['expressions']:,}",
                f"{fit['images']:,}",
                str(fit["best_epoch"] or ""),
                "" if first is None else f"{first['mean_iou']:.3f}",
                fit["reason"] or "",
            )
        )
    header = (
        "matcher",
        "expressions",
        "images",
        "best epoch",
        "mean IoU, held out",
        "not used because",
    )
    return Table("Training", header, rows)


def _times(report: Mapping[str, Any]) -> Table:
    """Return how long each stage took, and how long it would take with all images."""
    data = report["data"]
    share = data["images"] / data["described"]
    rows = [
        (
            stage["name"] + (" (continued)" if stage["interrupted"] else ""),
            _seconds(stage["seconds"]),
            "" if share == 1 else _seconds(stage["seconds"] / share),
        )
        for stage in report["stages"]
    ]
    total = sum(stage["seconds"] for stage in report["stages"])
    rows.append(("all stages", _seconds(total), "" if share == 1 else _seconds(total / share)))
    return Table("Times", ("stage", "took", "with all images, in proportion"), rows)


def _machine(report: Mapping[str, Any]) -> Table:
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rows = [
        ("processor", f"{machine['processor']}, {machine['cores']} cores"),
        ("memory", f"{machine['memory_gib']} GiB"),
        ("GPU", ", ".join(machine["gpus"]) or "none"),
        ("versions", versions),
    ]
    return Table("Machine", ("", ""), rows)


def _markdown(report: Mapping[str, Any]) -> str:
    lines = [f"# {_title(report)}", "", _about(report), "", _INTRODUCTION, ""]
    for table in report_tables(report):
        lines += _markdown_table(table, 2)
    for variant, evaluations in report["evaluations"].items():
        for key, evaluation in evaluations.items():
            lines += [f"## {_evaluation_title(report, variant, key)}", "", evaluation["about"], ""]
            for table in evaluation["tables"]:
                rows = [tuple(row) for row in table["rows"]]
                lines += _markdown_table(Table(table["title"], tuple(table["header"]), rows), 3)
    return "\n".join(lines)


def _markdown_table(table: Table, level: int) -> list[str]:
    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rule = "|" + "---|" * len(table.header)
    return [
        f"{'#' * level} {table.title}", "", row(table.header), rule, *map(row, table.rows), ""
    ]  # fmt: skip


def _evaluation_title(report: Mapping[str, Any], variant: str, key: str) -> str:
    models = f", {variant} models" if len(report["evaluations"]) > 1 else ""
    return f"{report['title']} {key.replace('-', ' ')}{models}"


def _section(table: Table) -> str:
    shown = table_html(table.header, table.rows)
    return f'<h2>{html.escape(table.title)}</h2>\n<div class="wide">{shown}</div>'


def _curve(path: Path) -> str:
    name = html.escape(path.name.removesuffix("-curve.png"))
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img style="height:auto;max-width:40rem" src="data:image/png;base64,{data}" '
        f'alt="learning curve of {name}"><figcaption>{name}</figcaption></figure>'
    )


def _interval(estimate: Mapping[str, float | None], style: str = ".3f") -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "–"
    return f"{value:{style}} [{low:{style}}, {high:{style}}]"


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
