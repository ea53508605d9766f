"""The command ``reembed``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..core.text import counted
from .logs import Verbose
from .options import Device, IndexDirectory, Json, ShardImages, Wait
from .output import note, print_json, say

__all__ = ["reembed"]


def reembed(
    index: IndexDirectory,
    clip: Annotated[
        str,
        typer.Option(
            "--clip",
            help="The new CLIP model: MODEL:PRETRAINED, MODEL:FILE, hf-hub:ORG/NAME, a folder, or "
            "nano.",
        ),
    ],
    drop_missing: Annotated[
        bool,
        typer.Option(
            "--drop-missing",
            help="Remove images whose files are gone, damaged or changed. Without this, one such "
            "image keeps the index on its old model.",
        ),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes that decode images.")
    ] = None,
    batch_images: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 16,
    shard_images: ShardImages = 512,
    device: Device = "auto",
    wait: Wait = 0.0,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Renew an index with another CLIP model: same images, same boxes, new embeddings.

    Queries use the old embeddings until all new ones are there. An interrupted run resumes when the
    command is repeated.

    Example: retrieval-grounding reembed indexes/pictures --clip models/my-clip
    """
    from ..core.reports import BuildOptions
    from ..indexing.reembed import load_named, reembed_index
    from ..models.device import resolve_device

    given: dict[str, Any] = {"workers": workers} if workers else {}
    options = BuildOptions(batch_images=batch_images, shard_images=shard_images, **given)
    try:
        report = reembed_index(
            index,
            load_named(clip, resolve_device(device)),
            clip,
            drop_missing=drop_missing,
            options=options,
            timeout=wait,
        )
    except KeyboardInterrupt:
        note("stopped: what is embedded is kept; repeat the command to resume")
        raise typer.Exit(130) from None
    if as_json:
        print_json({"index": str(index), **report.as_dict()})
        return
    for file in report.dropped:
        say(f"removed: {file.path} ({file.reason})")
    for text in report.notes:
        say(f"note: {text}")
    if report.images:
        before = f", {report.resumed} of them by an earlier run" if report.resumed else ""
        say(
            f"{index}: {counted(report.regions, 'region')} of {counted(report.images, 'image')} "
            f"embedded again{before}"
        )
