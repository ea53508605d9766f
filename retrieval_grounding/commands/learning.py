"""Commands that learn from referring expressions, and that measure with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shared import Device, Html, IndexDirectory, Json, print_json, print_table

__all__ = ["COMMANDS"]


def evaluate(
    index: IndexDirectory,
    refs: Annotated[
        Path,
        typer.Option(
            "--refs", "-r", help="Expressions: .jsonl, .jsonl.gz, .csv, or a folder like REFER's."
        ),
    ],
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Take only this split; may be repeated.")
    ] = None,
    first_sentence: Annotated[
        bool, typer.Option("--first-sentence", help="Take one expression for each object.")
    ] = False,
    one_object: Annotated[
        bool, typer.Option("--one-object", help="Take one object of each image.")
    ] = False,
    gallery: Annotated[
        int, typer.Option(min=0, help="Phrases searched in all images, for BoxRecall.")
    ] = 1000,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="grounding=FILE",
            help="Score others' predictions (JSON lines: image, expression, bbox); repeatable.",
        ),
    ] = None,
    device: Device = "auto",
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Measure how well expressions with known boxes are grounded in an index.

    Example: retrieval-grounding evaluate indexes/coco --refs refcocog/ --split val
    """
    references = [_reference_file(text) for text in reference or ()]
    from ..index import Index

    report = Index.open(index, device=device).evaluate(
        refs,
        splits=split,
        references=references,
        first_sentence_only=first_sentence,
        one_object_per_image=one_object,
        gallery=gallery,
    )
    if html is not None:
        from ..evaluation import write_page

        write_page(report, html)
    if as_json:
        print_json(report.as_dict())
        return
    typer.echo(report.summary)
    for table in report.tables():
        typer.echo(f"\n{table.title}")
        print_table(table.header, table.rows, header_in_pipe=True)
    for note in ("", *report.notes):
        typer.echo(note)
    if html is not None:
        typer.echo(f"The page with the curves and pictures: {html}")


def _reference_file(text: str) -> Path:
    kind, _, file = text.partition("=")
    if kind != "grounding" or not file:
        raise typer.BadParameter(
            f"{text!r} is not of the form grounding=FILE", param_hint="--reference"
        )
    return Path(file)


COMMANDS = (evaluate,)
