"""The commands ``remove``, ``compact``, ``reindex`` and ``relocate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.text import counted
from .logs import Verbose
from .options import (
    DetectorName,
    Device,
    IndexClip,
    IndexDirectory,
    Json,
    ShardImages,
    Wait,
    check_index_first,
)
from .output import print_json, print_table, say

__all__ = ["compact", "reindex", "relocate", "remove"]

_LABELS = {
    "kind": "vector index",
    "wanted": "requested",
    "recall": "recall",
    "recall_wanted": "recall requested",
    "measured_with_phrases": "phrases for measuring",
    "measured_with_regions": "regions when measured",
    "regions_rescored_per_image": "regions re-scored per image",
    "reindex_because": "reindex again because",
}


def remove(
    index: IndexDirectory,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Images, or folders with everything in them.", metavar="PATH"),
    ] = None,
    glob: Annotated[
        str | None, typer.Option(help="A pattern for absolute paths; * also matches /.")
    ] = None,
    wait: Wait = 0.0,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Remove images from an index. Their files stay; 'build --restore' adds them again.

    Example: retrieval-grounding remove indexes/pictures --glob "*/screenshots/*"
    """
    from ..index import Index

    if not paths and glob is None:
        raise typer.BadParameter("name images, folders or --glob PATTERN")
    check_index_first(index, [str(path) for path in paths or []])
    removed = Index.open(index).remove(paths or [], glob, timeout=wait)
    if as_json:
        print_json({"index": str(index), "removed": removed})
    else:
        say(f"{index}: {counted(removed, 'image')} removed")


def compact(
    index: IndexDirectory,
    max_unused: Annotated[
        float, typer.Option(min=0, max=1, help="Rewrite shards with a larger unused share.")
    ] = 0.2,
    shard_images: ShardImages = 512,
    wait: Wait = 0.0,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Free disk space: rewrite shards that are partly unused, and merge small ones.

    Example: retrieval-grounding compact indexes/pictures
    """
    from ..index import Index

    report = Index.open(index).compact(max_unused, shard_images, timeout=wait)
    if as_json:
        print_json({"index": str(index), **asdict(report)})
    else:
        say(
            f"{index}: {counted(report.shards_before, 'shard')} before, "
            f"{report.shards_after} after; "
            f"{counted(report.regions_dropped, 'unused region')} dropped, "
            f"{counted(report.bytes_freed, 'byte')} freed"
        )


def reindex(
    index: IndexDirectory,
    vectors: Annotated[
        str, typer.Option(help="auto, flat (exact), ivf (compressed) or hnsw (a graph).")
    ] = "auto",
    recall: Annotated[
        float,
        typer.Option(help="Share of the exact search's candidates to find, 0 to 1."),
    ] = 0.98,
    clip: IndexClip = None,
    wait: Wait = 0.0,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Rebuild the vector index from the shards. Later builds keep its kind.

    Example: retrieval-grounding reindex indexes/pictures --vectors ivf --recall 0.95
    """
    from ..index import Index

    kind: Any = vectors  # reindex checks it
    facts = Index.open(index, encoder=clip).reindex(kind, recall, timeout=wait)
    if as_json:
        print_json({"index": str(index), **facts})
        return
    labels = _LABELS | {"effort": "ef_search" if facts["kind"] == "hnsw" else "nprobe"}
    print_table(
        ("", ""),
        [(labels[key], str(value)) for key, value in facts.items() if value is not None],
    )


def relocate(
    index: IndexDirectory,
    detector: DetectorName = None,
    clip: IndexClip = None,
    device: Device = "auto",
    wait: Wait = 0.0,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Record where the weights that built an index are now, after checking that they are the same.

    Example: retrieval-grounding relocate indexes/pictures --clip /models/my-clip
    """
    from ..indexing.relocate import relocate_models

    recorded = relocate_models(index, detector, clip, device, wait)
    if as_json:
        print_json({"index": str(index), **recorded})
    else:
        say(f"{index}: " + ", ".join(f"{key} {name}" for key, name in recorded.items()))
