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
    from ..core.bootstrap import Estimate
    from ..matching.fit_result import Fit

__all__ = ["train"]


def train(
    index: IndexDirectory,
    refs: Annotated[
        list[str],
        typer.Option(
            "--refs",
            "-r",
            metavar="FILE[=WEIGHT]",
            help="Expressions: .jsonl, .jsonl.gz, .csv, or a folder: REFER, Flickr30k Entities; "
            "'pseudo' for phrases generated from the index; or 'feedback' for thumbs; repeatable.",
        ),
    ],
    kind: Annotated[str, typer.Option(help="residual, or concat for a plain MLP.")] = "residual",
    any_encoder: Annotated[
        bool,
        typer.Option("--any-encoder", help="See only similarities: a matcher for every encoder."),
    ] = False,
    placed: Annotated[
        bool,
        typer.Option(
            "--placed",
            help="Learn where things are, too, from files that describe nearly all there is.",
        ),
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(help="What to call the matcher; it is kept even if it is not used."),
    ] = None,
    split: Split = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            "--held-out",
            metavar="SPLIT",
            help="Let this split decide what is kept (default: a fifth of the images); repeatable.",
        ),
    ] = None,
    first_sentence: FirstSentence = False,
    one_object: OneObject = False,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Do not start from the matcher in use.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the expressions.")] = 20,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "--batch", min=1, help="Expressions in a batch.")
    ] = 160,
    lr: Annotated[
        float, typer.Option("--lr", "--rate", min=0, help="Peak learning rate.")
    ] = 1.5e-3,
    seed: Annotated[int, typer.Option(help="Seed for all random choices.")] = 0,
    clip: IndexClip = None,
    device: Device = "auto",
    wait: Wait = 0.0,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Train a matcher on the cached features of an index, without reading its images.

    Training starts from the matcher in use. The result is used unless it loses, on held-out images,
    to the one in use or to a simpler one; then the exit code is 1. An interrupted run resumes when
    the command is repeated with the same options.

    Example: retrieval-grounding train indexes/photos --refs pseudo
    """
    if kind not in ("residual", "concat"):
        raise typer.BadParameter(
            f"{kind!r} is not a kind of matcher; use residual or concat", param_hint="--kind"
        )
    from ..index import Index
    from ..matching.options import TrainingOptions
    from ..matching.sources import parse_source

    check_index_first(index, refs)
    fit = Index.open(index, encoder=clip, device=device).train(
        dict(map(parse_source, refs)),
        kind="concat" if kind == "concat" else "residual",
        any_encoder=any_encoder,
        placed=placed,
        name=name,
        splits=split,
        held_out=held_out or (),
        first_sentence_only=first_sentence,
        one_object_per_image=one_object,
        from_scratch=from_scratch,
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
    header = ("epoch", "loss", "validation loss", "Acc@0.5", "mean IoU", "R@1", "mean 1/rank")
    rows = [
        (
            f"{epoch.number}{' *' if epoch is best else ''}",
            f"{epoch.loss:.3f}",
            f"{epoch.validation_loss:.3f}",
            f"{epoch.accuracy:.3f}",
            f"{epoch.mean_iou:.3f}",
            f"{epoch.image_recall:.3f}",
            f"{epoch.reciprocal_rank:.3f}",
        )
        for epoch in fit.history.epochs
    ]
    print_table(header, rows, header_in_pipe=True)
    if fit.comparisons:
        _print_comparisons(fit)
    for text in fit.notes:
        say(f"note: {text}")
    kept = f"; kept epoch {best.number} as {fit.name}" if fit.name and best is not None else ""
    say(
        f"{index}: trained on {counted(fit.expressions, 'expression')} about "
        f"{counted(fit.images, 'image')}{kept}"
    )


def _print_comparisons(fit: Fit) -> None:
    """Print a table of what is on held-out images, the new matcher first."""
    new = fit.comparisons[-1]  # cosine+label, which is compared on all of them
    kind = fit.stored.recipe.describe(fit.matcher.config.kind)
    if fit.share < 1:
        kind += f", {fit.share:g} of the way from where it started"
    say(
        f"held out: {counted(new.expressions, 'expression')} about {counted(new.images, 'image')}; "
        f"new is {kind}; gains of new with 95% intervals"
    )
    header = ("", "mean IoU", "gain", "Acc@0.5", "R@1", "BoxRecall@1", "mean 1/rank", "gain")
    numbers = (new.mean_iou, new.accuracy, new.image_recall, new.box_recall, new.reciprocal_rank)
    iou, *others = (f"{number:.3f}" for number in numbers)
    rows = [("new", iou, "", *others, "")]
    for c in fit.comparisons:
        numbers = (
            c.other_mean_iou, c.other_accuracy, c.other_image_recall, c.other_box_recall,
            c.other_reciprocal_rank,
        )  # fmt: skip
        iou, *others = (f"{number:.3f}" for number in numbers)
        rows.append((c.name, iou, _interval(c.gain), *others, _interval(c.rank_gain)))
    print_table(header, rows, header_in_pipe=True)


def _interval(gain: Estimate) -> str:
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
