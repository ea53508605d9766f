"""Commands that look after an index: remove, compact."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .shared import IndexDirectory, Json, print_json

__all__ = ["COMMANDS"]


def remove(
    index: IndexDirectory,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Images, or folders with all below them.", metavar="[PATH...]"),
    ] = None,
    glob: Annotated[
        str | None, typer.Option(help="A pattern for absolute paths; * matches everything.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Forget images. Their files stay, and a build of their folder adds them again.

    Example: retrieval-grounding remove indexes/pictures --glob "*/screenshots/*"
    """
    from ..index import Index

    if not paths and glob is None:
        raise typer.BadParameter("name images, folders or --glob PATTERN")
    removed = Index.open(index).remove(paths or [], glob)
    if as_json:
        print_json({"index": str(index), "removed": removed})
    else:
        typer.echo(f"{index}: {removed} images removed")


def compact(
    index: IndexDirectory,
    max_unused: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a shard that may be unused.")
    ] = 0.2,
    shard_images: Annotated[int, typer.Option(min=1, help="Images in a new shard.")] = 512,
    as_json: Json = False,
) -> None:
    """Rewrite shards that are partly unused, and put small ones together.

    Example: retrieval-grounding compact indexes/pictures
    """
    from ..index import Index

    report = Index.open(index).compact(max_unused, shard_images)
    if as_json:
        print_json({"index": str(index), **asdict(report)})
    else:
        typer.echo(
            f"{index}: {report.shards_before} shards became {report.shards_after}; "
            f"{report.regions_dropped} unused regions dropped, {report.bytes_freed:,} bytes freed"
        )


COMMANDS = (remove, compact)
