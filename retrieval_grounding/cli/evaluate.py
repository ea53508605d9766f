"""The command ``evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .logs import Verbose
from .options import (
    Device,
    FirstSentence,
    Html,
    IndexClip,
    Json,
    OneObject,
    Split,
    check_index_first,
    index_directory,
)
from .output import note, print_json, print_table, say

if TYPE_CHECKING:
    from ..evaluation.proposal_report import ProposalReport
    from ..evaluation.report import EvaluationReport

__all__ = ["evaluate"]


def evaluate(
    index: Annotated[
        list[Path],
        typer.Argument(
            help="Directory of the index; several are compared in one table.",
            metavar="INDEX",
            parser=index_directory,
        ),
    ],
    refs: Annotated[
        Path,
        typer.Option(
            "--refs",
            "-r",
            help="Expressions: .jsonl, .jsonl.gz, .csv, or a folder: REFER, Flickr30k Entities.",
        ),
    ],
    split: Split = None,
    first_sentence: FirstSentence = False,
    one_object: OneObject = False,
    matcher: Annotated[
        list[str] | None,
        typer.Option(
            help="Matcher to compare with cosine and cosine+label, by its name; repeatable; "
            "see 'matcher list'. Default: the one in use."
        ),
    ] = None,
    gallery: Annotated[
        int, typer.Option(min=0, help="Phrases to search for in all images, for BoxRecall.")
    ] = 1000,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="grounding=FILE",
            help="Also score predictions of a different system (JSON lines with image, expression, "
            "bbox); repeatable.",
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="FILE",
            help="Write what each matcher answers to each expression, as JSON lines.",
        ),
    ] = None,
    proposals: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DETECTOR",
            help="Instead, compare the boxes of this detector with those of the index: recall@0.5 "
            "and Acc@0.5 by boxes per image; repeatable. Reads the images.",
        ),
    ] = None,
    clip: IndexClip = None,
    device: Device = "auto",
    html: Html = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Measure how well an index grounds expressions with known boxes.

    Example: retrieval-grounding evaluate indexes/coco --refs refcocog/ --split val
    """
    references = [_reference_file(text) for text in reference or ()]
    if len(index) > 1 and (html is not None or predictions is not None):
        raise typer.BadParameter("--html and --predictions are about one index; name only one")
    for folder in index:
        check_index_first(folder, [str(refs)])
    from ..index import Index

    if proposals:
        if len(index) > 1 or references or html is not None or predictions is not None:
            raise typer.BadParameter(
                "--proposals compares with one index, without --reference, --html and --predictions"
            )
        if len(matcher or ()) > 1:
            raise typer.BadParameter("--proposals takes one --matcher, which chooses the boxes")
        with Index.open(index[0], encoder=clip, device=device) as opened:
            compared = opened.compare_detectors(
                refs,
                proposals,
                splits=split or None,
                matcher=matcher[0] if matcher else None,
                first_sentence_only=first_sentence,
                one_object_per_image=one_object,
            )
        _print_proposals(compared, as_json)
        return
    reports = {}
    for folder in index:
        with Index.open(folder, encoder=clip, device=device) as opened:
            reports[str(folder)] = opened.evaluate(
                refs,
                splits=split or None,
                matchers=matcher or None,
                references=references,
                first_sentence_only=first_sentence,
                one_object_per_image=one_object,
                gallery=gallery,
            )
    report = reports[str(index[0])]
    if html is not None:
        from ..evaluation.html_report import write_report

        write_report(report, html)
    if predictions is not None:
        from ..evaluation.results import write_predictions

        assert report.results is not None  # every evaluation sets it
        write_predictions(report.results, predictions)
    if as_json:
        plain = {name: report.as_dict() for name, report in reports.items()}
        print_json(plain if len(index) > 1 else report.as_dict())
        return
    _print_reports(reports)
    if html is not None:
        note(f"Wrote the HTML page {html}")
    if predictions is not None:
        note(f"Wrote the predictions {predictions}")


def _print_proposals(report: ProposalReport, as_json: bool) -> None:
    if as_json:
        print_json(report.as_dict())
        return
    say(report.summary)
    for table in report.tables():
        say(f"\n{table.title}")
        print_table(table.header, table.rows, header_in_pipe=True)
    for line in ("", *report.notes):
        say(line)


def _print_reports(reports: Mapping[str, EvaluationReport]) -> None:
    """Print the tables of one index, or the first three of several indexes as one each."""
    from ..evaluation.tables import joined_table

    several = len(reports) > 1
    for name, report in reports.items():
        say(f"{name}: {report.summary}" if several else report.summary)
    tables = next(iter(reports.values())).tables()
    if several:
        by_kind = list(zip(*(report.tables()[:3] for report in reports.values()), strict=True))
        tables = [joined_table(dict(zip(reports, same, strict=True))) for same in by_kind]
    for table in tables:
        say(f"\n{table.title}")
        print_table(table.header, table.rows, header_in_pipe=True)
    for line in ("", *dict.fromkeys(line for report in reports.values() for line in report.notes)):
        say(line)


def _reference_file(text: str) -> Path:
    kind, _, file = text.partition("=")
    if kind != "grounding" or not file:
        raise typer.BadParameter(
            f"{text!r} does not have the form grounding=FILE", param_hint="--reference"
        )
    return Path(file)
