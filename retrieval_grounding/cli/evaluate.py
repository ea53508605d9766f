"""The command ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .logs import Verbose
from .options import (
    Device,
    FirstSentence,
    Html,
    IndexClip,
    IndexDirectory,
    Json,
    OneObject,
    Split,
    check_index_first,
)
from .output import note, print_json, print_table, say

__all__ = ["evaluate"]


def evaluate(
    index: IndexDirectory,
    refs: Annotated[
        Path,
        typer.Option(
            "--refs",
            "-r",
            help="Expressions: .jsonl, .jsonl.gz, .csv, or a folder in the REFER layout.",
        ),
    ],
    split: Split = None,
    first_sentence: FirstSentence = False,
    one_object: OneObject = False,
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
    check_index_first(index, [str(refs)])
    from ..index import Index

    report = Index.open(index, encoder=clip, device=device).evaluate(
        refs,
        splits=split or None,
        references=references,
        first_sentence_only=first_sentence,
        one_object_per_image=one_object,
        gallery=gallery,
    )
    if html is not None:
        from ..evaluation.html_report import write_report

        write_report(report, html)
    if as_json:
        print_json(report.as_dict())
        return
    say(report.summary)
    for table in report.tables():
        say(f"\n{table.title}")
        print_table(table.header, table.rows, header_in_pipe=True)
    for line in ("", *report.notes):
        say(line)
    if html is not None:
        note(f"Wrote the HTML page {html}")


def _reference_file(text: str) -> Path:
    kind, _, file = text.partition("=")
    if kind != "grounding" or not file:
        raise typer.BadParameter(
            f"{text!r} does not have the form grounding=FILE", param_hint="--reference"
        )
    return Path(file)
