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
    from ..finetuning.yolo.report import YoloTuning

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
        help="Expressions: .jsonl, .jsonl.gz, .csv, or a folder: REFER, Flickr30k Entities.",
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
    limit: Annotated[int | None, typer.Option(min=5, help="Use at most this many images.")] = None,
    seed: Annotated[int, typer.Option(help="Seed for all random choices.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Fine-tune a CLIP model on regions and what people call them.

    The result is a folder for --clip. If the new weights find no more, or are worse by more than a
    point at naming objects or finding captions, nothing is written and the exit code is 1. An
    interrupted run resumes when the command is repeated.

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
    _end(
        report,
        "try a lower --lr or more expressions (what was computed for the images is kept for that)",
    )


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


@finetune.command()
def yolo(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="An index, or folders, images, archives and lists as for 'build'; of these, only "
            "images with boxes are used.",
            metavar="INDEX|IMAGES",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A new file, NAME.pt.")
    ],
    refs: Annotated[
        str | None,
        typer.Option(
            "--refs",
            "-r",
            help="Expressions, whose boxes are used: .jsonl, .jsonl.gz, .csv, or a folder: REFER, "
            "Flickr30k Entities.",
        ),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(metavar="COCO.json", help="Instead of --refs, a file of COCO instances."),
    ] = None,
    detector: Annotated[
        str, typer.Option(help="The YOLO to start from: a .pt file, a published name, or nano.")
    ] = "nano",
    class_agnostic: Annotated[
        bool,
        typer.Option(
            "--class-agnostic",
            help="Learn one class, 'object', instead of the detector's own and the categories of "
            "the boxes.",
        ),
    ] = False,
    split: Split = None,
    held_out: HeldOut = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = 20,
    batch: Annotated[
        int, typer.Option("--batch", "--batch-images", min=2, help="Images in a batch.")
    ] = 16,
    lr: Annotated[float, typer.Option("--lr", "--rate", help="Peak learning rate.")] = 5e-4,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            help="Longest side in pixels that the network sees (default: the detector's own).",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for all random choices.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Fine-tune a YOLO detector, so that it finds what people refer to.

    The training includes what the detector is already sure of, so that it is not forgotten. The
    result is a checkpoint for --detector. If it finds fewer of the held-out boxes, or fits them no
    better, nothing is written and the exit code is 1. An interrupted run resumes when the command
    is repeated.

    Example: retrieval-grounding finetune yolo photos --refs refs.jsonl --detector yolo11s.pt
    -o models/my-yolo.pt
    """
    if (refs is None) == (boxes is None):
        raise typer.BadParameter("name either --refs or --boxes")
    if boxes is not None and (split or held_out):
        raise typer.BadParameter("a COCO file has no splits; leave out --split and --held-out")
    from ..finetuning.yolo.options import YoloTuningOptions
    from ..finetuning.yolo.run import finetune_yolo

    options = YoloTuningOptions(
        epochs=epochs,
        batch_images=batch,
        lr=lr,
        image_size=image_size,
        class_agnostic=class_agnostic,
        seed=seed,
    )
    try:
        report = finetune_yolo(
            sources,
            output,
            refs=refs,
            boxes=boxes,
            detector=detector,
            splits=split,
            held_out=held_out or (),
            device=device,
            options=options,
        )
    except KeyboardInterrupt:
        note("stopped: repeat the command to resume")
        raise typer.Exit(130) from None
    if as_json:
        print_json(report.as_dict())
    else:
        _print_yolo(report)
    _end(
        report,
        "try another --lr, more --epochs or more boxes (what was read is kept for that)",
    )


def _print_yolo(report: YoloTuning) -> None:
    print_table(("measure", "before", "after", "gain"), report.lines())
    if report.skipped:
        say(f"left out: {', '.join(f'{n} {reason}' for reason, n in report.skipped.items())}")
    if not report.kept_original:
        (training, held_out), (objects, others) = report.images, report.boxes
        say(
            f"{report.output}: {report.classes} classes, trained with "
            f"{counted(objects, 'referred object')} on {counted(training, 'image')} and "
            f"{report.pseudo_boxes:,} of the detector's own boxes; measured with "
            f"{counted(others, 'referred object')} on {counted(held_out, 'other image')}"
        )


def _end(report: ClipTuning | YoloTuning, advice: str) -> None:
    """End with an error if the original model is kept."""
    if report.kept_original:
        note(f"error: the original is kept, because {report.reason}; {advice}")
        raise typer.Exit(1)
