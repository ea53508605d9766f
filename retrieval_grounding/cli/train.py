"""The command ``train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.text import counted
from .logs import Verbose
from .options import (
    Device,
    FirstSentence,
    IndexClip,
    IndexDirectory,
    Json,
    OneObject,
    Split,
    Wait,
    check_index_first,
)
from .output import note, print_json, print_table, say

if TYPE_CHECKING:
    from ..matching.fit import Fit

__all__ = ["train"]


def train(
    index: IndexDirectory,
    refs: Annotated[
        str,
        typer.Option(
            "--refs",
            "-r",
            help="Expressions: .jsonl, .jsonl.gz, .csv, or a folder in the REFER layout; "
            "or 'pseudo' for phrases generated from the index.",
        ),
    ],
    kind: Annotated[str, typer.Option(help="residual, or concat for a plain MLP.")] = "residual",
    split: Split = None,
    first_sentence: FirstSentence = False,
    one_object: OneObject = False,
    fine_tune: Annotated[
        bool, typer.Option("--fine-tune", help="Start from the matcher in use, not from scratch.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the expressions.")] = 20,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "--batch", min=1, help="Expressions in a batch.")
    ] = 256,
    lr: Annotated[float, typer.Option("--lr", "--rate", min=0, help="Peak learning rate.")] = 3e-3,
    seed: Annotated[int, typer.Option(help="Seed for all random choices.")] = 0,
    clip: IndexClip = None,
    device: Device = "auto",
    wait: Wait = 0.0,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Train a matcher on the cached features of an index, without reading its images.

    The matcher is installed unless it is worse, on held-out expressions, than the one in use or
    than cosine; then the exit code is 1. An interrupted run resumes when the command is repeated
    with the same options.

    Example: retrieval-grounding train indexes/photos --refs pseudo
    """
    if kind not in ("residual", "concat"):
        raise typer.BadParameter(
            f"{kind!r} is not a kind of matcher; use residual or concat", param_hint="--kind"
        )
    from ..index import Index
    from ..matching.options import TrainingOptions

    check_index_first(index, [refs])
    fit = Index.open(index, encoder=clip, device=device).train(
        refs,
        kind="concat" if kind == "concat" else "residual",
        splits=split,
        first_sentence_only=first_sentence,
        one_object_per_image=one_object,
        fine_tune=fine_tune,
        options=TrainingOptions(epochs=epochs, batch_size=batch_size, lr=lr, seed=seed),
        timeout=wait,
    )
    if as_json:
        print_json(fit.as_dict() | {"index": str(index), "trained_on": fit.matcher.trained_on})
    else:
        _print_fit(index, fit)
    if not fit.installed:
        note(f"error: {fit.reason}")
        raise typer.Exit(1)


def _print_fit(index: Path, fit: Fit) -> None:
    best = fit.history.best
    header = ("epoch", "loss", "validation loss", "Acc@0.5", "mean IoU")
    rows = [
        (
            f"{epoch.number}{' *' if epoch is best else ''}",
            f"{epoch.loss:.3f}",
            f"{epoch.validation_loss:.3f}",
            f"{epoch.accuracy:.3f}",
            f"{epoch.mean_iou:.3f}",
        )
        for epoch in fit.history.epochs
    ]
    print_table(header, rows, header_in_pipe=True)
    for comparison in fit.comparisons:
        say(
            f"held out: mean IoU {comparison.mean_iou:.3f}, Acc@0.5 {comparison.accuracy:.3f}; "
            f"{comparison.name}: {comparison.other_mean_iou:.3f}, {comparison.other_accuracy:.3f} "
            f"({counted(comparison.expressions, 'expression')} about "
            f"{counted(comparison.images, 'image')})"
        )
    for text in fit.notes:
        say(f"note: {text}")
    kept = f"; kept epoch {best.number}" if fit.installed and best is not None else ""
    say(
        f"{index}: trained on {counted(fit.expressions, 'expression')} about "
        f"{counted(fit.images, 'image')}{kept}"
    )
