"""The command ``build``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.reports import BuildInterrupted
from .build_report import fail_if_unusable, show_build
from .logs import Verbose
from .options import (
    Classes,
    ClipName,
    Confidence,
    DetectorName,
    Device,
    Iou,
    Json,
    MaxBoxes,
    NoGroups,
    PresetName,
    ShardImages,
    Wait,
    detector_settings,
    index_directory,
)
from .output import note

__all__ = ["build"]


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", re.IGNORECASE)


def _size(text: str) -> int:
    """Return the bytes of a size such as 500MB, 4G or 1.5 GiB."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or not (size := float(match[1])):
        raise typer.BadParameter(
            f"{text!r} is not a size such as 500MB or 4GB", param_hint="--memory"
        )
    unit = match[2].upper()
    factor = 1024 ** list(_UNITS).index(unit) if match[3] else _UNITS[unit]
    return int(size * factor)


def build(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders, images, URLs, .zip and .tar archives, globs, or .txt lists of these.",
            metavar="PHOTOS",
        ),
    ],
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            "-i",
            parser=index_directory,
            metavar="PATH",
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
    classes: Classes = None,
    no_groups: NoGroups = False,
    device: Device = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes that decode images.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory for decoding images, such as 500MB or 4GB (default: a fourth of what is "
            "free).",
        ),
    ] = None,
    batch_images: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 16,
    shard_images: ShardImages = 512,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove images whose files have been deleted.")
    ] = False,
    check_content: Annotated[
        bool,
        typer.Option(
            "--check-content",
            help="Read every file, and find changes that left its size and time as they were.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Embed all PHOTOS again, even if nothing has changed.")
    ] = False,
    allow_empty: Annotated[
        bool,
        typer.Option(
            "--allow-empty",
            help="With --prune: also if a source has no images left; it could be a mount point.",
        ),
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Leave out, as in .gitignore; repeatable."),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Search what is left out by default or by .rgignore files; repeatable.",
        ),
    ] = None,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Search folders to which links point.")
    ] = False,
    thumbnails: Annotated[
        bool,
        typer.Option(
            "--thumbnails",
            help="Keep small pictures of images embedded from now on, to show what has no file.",
        ),
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Add images again that 'remove' removed.")
    ] = False,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A .csv, .jsonl or .parquet file about the images, keyed by path, stem or id, for "
            "'query --where'.",
        ),
    ] = None,
    refs: Annotated[
        Path | None,
        typer.Option(
            "--refs",
            "-r",
            metavar="FILE",
            help="Index only images that these expressions are about; formats as for 'evaluate'.",
        ),
    ] = None,
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
    from ..indexing.place import default_directory

    directory = index or default_directory(sources)
    given: dict[str, Any] = {"workers": workers} if workers else {}
    if memory is not None:
        given["memory"] = _size(memory)
    options = BuildOptions(
        batch_images=batch_images,
        shard_images=shard_images,
        prune=prune,
        check_content=check_content,
        force=force,
        allow_empty=allow_empty,
        restore=restore,
        exclude=tuple(exclude or ()),
        include=tuple(include or ()),
        follow_links=follow_links,
        thumbnails=thumbnails,
        **given,
    )
    models: dict[str, Any] = {
        "preset": preset,
        "detector": detector,
        "clip": clip,
        "settings": detector_settings(confidence, iou, max_boxes, no_groups, classes),
        "device": device,
    }
    if dry_run:
        report = preview_build(sources, directory, options=options, refs=refs, **models)
        show_build(report, directory, as_json, dry_run=True)
        fail_if_unusable(report)
        return
    try:
        built = build_index(
            sources,
            directory,
            options=options,
            metadata=metadata,
            refs=refs,
            timeout=wait,
            **models,
        )
    except BuildInterrupted as stopped:
        show_build(stopped.report, directory, as_json)
        note("stopped: everything reported above is saved; build again to resume")
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        note("stopped: finished shards are saved; build again to resume")
        raise typer.Exit(130) from None
    assert built.build_report is not None
    show_build(built.build_report, directory, as_json, images=len(built))
    fail_if_unusable(built.build_report)
