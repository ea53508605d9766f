"""Commands that learn from referring expressions, and that measure with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.text import counted
from .options import Device, Html, IndexDirectory, Json
from .output import print_json, print_table

__all__ = ["evaluate", "train"]


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
        splits=split or None,
        references=references,
        first_sentence_only=first_sentence,
        one_object_per_image=one_object,
        gallery=gallery,
    )
    if html is not None:
        from ..evaluation.html_report import write_page

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


def train(
    index: IndexDirectory,
    refs: Annotated[
        str,
        typer.Option(
            "--refs",
            "-r",
            help="Expressions: .jsonl, .jsonl.gz, .csv, or a folder like REFER's; "
            "or 'pseudo' to make phrases from the index itself.",
        ),
    ],
    kind: Annotated[
        str, typer.Option(help="residual, or concat for the classic MLP.")
    ] = "residual",
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Take only this split; may be repeated.")
    ] = None,
    first_sentence: Annotated[
        bool, typer.Option("--first-sentence", help="Take one expression for each object.")
    ] = False,
    one_object: Annotated[
        bool, typer.Option("--one-object", help="Take one object of each image.")
    ] = False,
    fine_tune: Annotated[
        bool, typer.Option("--fine-tune", help="Start from the matcher in use, not from scratch.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the expressions.")] = 20,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "--batch", min=1, help="Expressions in a batch.")
    ] = 256,
    lr: Annotated[float, typer.Option("--lr", "--rate", min=0, help="Peak learning rate.")] = 3e-3,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train the matcher of an index from its cached features; no image is read.

    An interrupted run resumes when the command is repeated with the same options.

    Example: retrieval-grounding train indexes/photos --refs pseudo
    """
    if kind not in ("residual", "concat"):
        raise typer.BadParameter(f"{kind!r} is neither residual nor concat", param_hint="--kind")
    from ..index import Index
    from ..matching.options import TrainingOptions

    fit = Index.open(index, device=device).train(
        refs,
        kind="concat" if kind == "concat" else "residual",
        splits=split,
        first_sentence_only=first_sentence,
        one_object_per_image=one_object,
        fine_tune=fine_tune,
        options=TrainingOptions(epochs=epochs, batch_size=batch_size, lr=lr, seed=seed),
    )
    if as_json:
        print_json(fit.as_dict() | {"index": str(index), "trained_on": fit.matcher.trained_on})
        return
    header = ("epoch", "loss", "validation loss", "Acc@0.5", "mean IoU")
    rows = [
        (
            f"{epoch.number}{' *' if epoch is fit.history.best else ''}",
            f"{epoch.loss:.3f}",
            f"{epoch.validation_loss:.3f}",
            f"{epoch.accuracy:.3f}",
            f"{epoch.mean_iou:.3f}",
        )
        for epoch in fit.history.epochs
    ]
    print_table(header, rows, header_in_pipe=True)
    typer.echo(
        f"{index}: learned from {counted(fit.expressions, 'expression')} about "
        f"{counted(fit.images, 'image')}; "
        f"kept epoch {fit.history.best.number}"
    )


def _reference_file(text: str) -> Path:
    kind, _, file = text.partition("=")
    if kind != "grounding" or not file:
        raise typer.BadParameter(
            f"{text!r} is not of the form grounding=FILE", param_hint="--reference"
        )
    return Path(file)
