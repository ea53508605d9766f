"""The command ``build``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.reports import BuildInterrupted
from .build_report import show_build
from .logs import Verbose
from .options import (
    ClipName,
    Confidence,
    DetectorName,
    Device,
    Iou,
    Json,
    MaxBoxes,
    PresetName,
    ShardImages,
    Wait,
    detector_settings,
)
from .output import note

__all__ = ["build"]


def build(
    sources: Annotated[
        list[str],
        typer.Argument(help="Folders, images, globs, or .txt lists of paths.", metavar="PHOTOS"),
    ],
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            "-i",
            help="Directory of the index (default: indexes/NAME, with the name of the first "
            "PHOTOS).",
        ),
    ] = None,
    preset: PresetName = None,
    detector: DetectorName = None,
    clip: ClipName = None,
    confidence: Confidence = None,
    iou: Iou = None,
    max_boxes: MaxBoxes = None,
    device: Device = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes that decode images.")
    ] = None,
    batch_images: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 16,
    shard_images: ShardImages = 512,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove images whose files have been deleted.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Report what would be done, without decoding or writing."),
    ] = False,
    wait: Wait = 0.0,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Build an index over images, or add new and changed images to one.

    Example: retrieval-grounding build ~/Pictures --index indexes/pictures
    """
    from ..builder import build as build_index
    from ..builder import preview_build
    from ..core.reports import BuildOptions

    directory = index or Path("indexes") / (Path(sources[0]).absolute().stem or "images")
    given: dict[str, Any] = {"workers": workers} if workers else {}
    options = BuildOptions(
        batch_images=batch_images, shard_images=shard_images, prune=prune, **given
    )
    models: dict[str, Any] = {
        "preset": preset,
        "detector": detector,
        "clip": clip,
        "settings": detector_settings(confidence, iou, max_boxes),
        "device": device,
    }
    if dry_run:
        report = preview_build(sources, directory, options=options, **models)
        show_build(report, directory, as_json, dry_run=True)
        return
    try:
        built = build_index(sources, directory, options=options, timeout=wait, **models)
    except BuildInterrupted as stopped:
        show_build(stopped.report, directory, as_json)
        note("stopped: everything reported above is saved; build again to resume")
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        note("stopped: finished shards are saved; build again to resume")
        raise typer.Exit(130) from None
    assert built.build_report is not None
    show_build(built.build_report, directory, as_json, images=len(built))
