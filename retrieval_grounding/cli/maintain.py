"""Commands that look after an index: info, remove, compact, verify, reindex; and models."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.text import counted
from ..models.presets import PRESETS
from .build import print_skipped
from .options import IndexDirectory, Json
from .output import print_json, print_table

if TYPE_CHECKING:
    from ..core.reports import Fault, VerifyReport

__all__ = ["compact", "info", "models", "reindex", "remove", "verify"]


def info(index: IndexDirectory, as_json: Json = False) -> None:
    """Say what an index holds, which models built it, and which files were skipped.

    Fingerprints and what was measured of the vector index are in --json.

    Example: retrieval-grounding info indexes/pictures
    """
    from ..index import Index

    opened = Index.open(index)
    facts = opened.info()
    skipped = [{"path": f.path, "reason": f.reason, "detail": f.detail} for f in opened.skipped()]
    if as_json:
        print_json(facts | {"skipped_files": skipped})
        return
    rows = [
        ("images", f"{facts['images']:,}"),
        ("regions", f"{facts['regions']:,}"),
        ("size on disk", f"{facts['bytes'] / 1e6:,.1f} MB"),
        ("detector", facts["detector"] or facts["detector_fingerprint"]),
        ("encoder", facts["clip"] or facts["encoder_fingerprint"]),
        ("matcher", facts["matcher"]),
        ("vector index", facts["vectors"]["kind"]),
        ("runs", facts["runs"]),
    ]
    due = facts["vectors"].get("reindex_because")
    rows += [("to do", f"retrieval-grounding reindex {index}, because {due}")] if due else []
    print_table(("", ""), [(name, str(value)) for name, value in rows])
    print_skipped([(f["path"], f["reason"], f["detail"]) for f in skipped])


def models(as_json: Json = False) -> None:
    """List the presets: names of a detector and of a CLIP model."""
    if as_json:
        print_json([vars(preset) for preset in PRESETS.values()])
        return
    rows = [(p.name, p.detector, p.clip, p.summary) for p in PRESETS.values()]
    print_table(("preset", "detector", "clip", ""), rows)


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
        typer.echo(f"{index}: {counted(removed, 'image')} removed")


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
            f"{index}: {counted(report.shards_before, 'shard')} became {report.shards_after}; "
            f"{counted(report.regions_dropped, 'unused region')} dropped, "
            f"{counted(report.bytes_freed, 'byte')} freed"
        )


def verify(
    index: IndexDirectory,
    repair: Annotated[
        bool, typer.Option("--repair", help="Embed again what is damaged; keep the rest.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Json = False,
) -> None:
    """Check every byte of an index; the exit code is 1 if something is wrong with it.

    Example: retrieval-grounding verify indexes/pictures --repair
    """
    from ..index import Index

    report = Index.open(index, device=device).verify(repair=repair)
    if as_json:
        print_json(
            {
                "index": str(index),
                "images": report.images,
                "shards": report.shards,
                "faults": [_as_dict(fault) for fault in report.faults],
                "repaired": [_as_dict(fault) for fault in report.repaired],
                "embedded": report.embedded,
                "lost": report.lost,
            }
        )
    else:
        _print_verified(index, report)
    if report.faults:
        raise typer.Exit(1)


def reindex(
    index: IndexDirectory,
    vectors: Annotated[
        str, typer.Option(help="auto, flat (exact), ivf (compressed) or hnsw (a graph).")
    ] = "auto",
    recall: Annotated[
        float, typer.Option(help="Share of the exact candidates that must be found.")
    ] = 0.98,
    as_json: Json = False,
) -> None:
    """Make the vector index anew, of a kind that later builds keep to; no image is read.

    Example: retrieval-grounding reindex indexes/pictures --vectors ivf --recall 0.95
    """
    from ..index import Index

    facts = Index.open(index).reindex(vectors, recall)  # type: ignore[arg-type]
    if as_json:
        print_json({"index": str(index), **facts})
    else:
        print_table(("", ""), [(key, str(value)) for key, value in facts.items()])


def _as_dict(fault: Fault) -> dict[str, str]:
    return {name: getattr(fault, name) for name in ("where", "kind", "detail", "repair")}


def _print_verified(index: Path, report: VerifyReport) -> None:
    state = counted(len(report.faults), "fault") if report.faults else "all is well"
    if report.repaired:
        state += (
            f"; {counted(len(report.repaired), 'fault')} repaired, "
            f"{counted(report.embedded, 'image')} embedded again, "
            f"{len(report.lost)} lost"
        )
    typer.echo(
        f"{index}: {counted(report.images, 'image')} in {counted(report.shards, 'shard')}, {state}"
    )
    for title, faults in (("fault", report.faults), ("repaired", report.repaired)):
        if faults:
            rows = [(fault.where, fault.kind, fault.detail, fault.repair) for fault in faults]
            print_table((title, "", "", "repair"), rows)
    if report.lost:
        print_table(("lost",), [(path,) for path in report.lost])
    if report.faults and not report.repaired:
        typer.echo(f"to repair: retrieval-grounding verify {index} --repair", err=True)
