"""The commands ``finetune clip`` and ``finetune yolo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.text import counted
from .logs import Verbose
from .options import Device, Json, Split, index_directory
from .output import note, print_json, print_table, say

if TYPE_CHECKING:
    from ..finetuning.clip.report import ClipTuning

__all__ = ["finetune"]

finetune = typer.Typer(
    name="finetune",
    help="Fine-tune the models themselves on images and expressions of your own.",
    no_args_is_help=True,
)

Refs = Annotated[
    str,
    typer.Option(
        "--refs",
        "-r",
        help="Expressions: .jsonl, .jsonl.gz, .csv, or a folder in the REFER layout.",
    ),
]
HeldOut = Annotated[
    list[str] | None,
    typer.Option(
        "--held-out",
        metavar="SPLIT",
        help="Measure with this split (default: a fifth of the images); repeatable.",
    ),
]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", parser=index_directory, metavar="DIR", help="A new folder."),
]


@finetune.callback()
def _root() -> None:
    pass


@finetune.command()
def clip(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="An index, or folders, images, archives and lists as for 'build'; of these, only "
            "images that expressions name are used.",
            metavar="INDEX|IMAGES",
        ),
    ],
    refs: Refs,
    output: Output,
    clip: Annotated[
        str | None,
        typer.Option(
            "--clip", help="The model to start from (default: that of the index, else nano)."
        ),
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="For IMAGES: what finds further regions (default: nano).")
    ] = None,
    split: Split = None,
    held_out: HeldOut = None,
    captions: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Captions of the images, to train with and to guard: lines of a name, a tab and a "
            "caption, or .jsonl with image and caption.",
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Train the layers themselves, not adapters (LoRA).")
    ] = False,
    layers: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many of the image tower's last blocks to train (default: a quarter)."
        ),
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the adapters.")] = 16,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            "--rate",
            help="Peak learning rate (default: 5e-4; with --full 1e-4, or 1e-5 for large models).",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates of the weights.")] = 300,
    batch: Annotated[
        int, typer.Option("--batch", "--batch-images", min=1, help="Images in a batch.")
    ] = 16,
    accumulate: Annotated[
        int, typer.Option(min=1, help="Batches for one update, where a large one does not fit.")
    ] = 1,
    max_regions: Annotated[
        int, typer.Option("--max-regions", min=4, help="Regions of an image, at most.")
    ] = 20,
    limit: Annotated[int | None, typer.Option(min=5, help="Use at most so many images.")] = None,
    seed: Annotated[int, typer.Option(help="Seed for all random choices.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Fine-tune a CLIP model on regions and what people call them.

    The result is a folder for --clip, or nothing and exit code 1 if the new weights find no more,
    or name objects or find captions worse by more than a point. An interrupted run resumes when the
    command is repeated.

    Example: retrieval-grounding finetune clip indexes/photos --refs refs.jsonl -o models/my-clip
    """
    from ..finetuning.clip.options import ClipTuningOptions
    from ..finetuning.clip.run import finetune_clip

    options = ClipTuningOptions(
        steps=steps,
        batch_images=batch,
        accumulate=accumulate,
        full=full,
        rank=rank,
        lr=lr,
        layers=layers,
        max_regions=max_regions,
        seed=seed,
    )
    try:
        report = finetune_clip(
            sources,
            refs,
            output,
            clip=clip,
            detector=detector,
            splits=split,
            held_out=held_out or (),
            captions=captions,
            limit=limit,
            device=device,
            options=options,
        )
    except KeyboardInterrupt:
        note("stopped: repeat the command to resume")
        raise typer.Exit(130) from None
    if as_json:
        print_json(report.as_dict())
    else:
        _print_clip(report)
    if report.kept_original:
        note(
            f"error: the original is kept, because {report.reason}; try a lower --lr or more "
            "expressions (what was computed for the images is kept for that)"
        )
        raise typer.Exit(1)


def _print_clip(report: ClipTuning) -> None:
    from ..finetuning.clip.report import gain_lines

    print_table(("measure", "before", "after", "gain", "of"), gain_lines(report))
    if report.unusable:
        say(f"note: {counted(len(report.unusable), 'image')} could not be read or have changed")
    if not report.kept_original:
        training, choosing, _ = report.images
        say(
            f"{report.output}: {report.share:g} of the weights trained with "
            f"{counted(report.phrases, 'phrase')} about {counted(training, 'image')}, "
            f"{1 - report.share:g} of the original; chosen on {counted(choosing, 'image')}"
        )
