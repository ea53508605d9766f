"""The ``build`` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import BuildInterrupted
from ..core.text import counted
from .options import (
    ClipName,
    Confidence,
    DetectorName,
    Device,
    Iou,
    Json,
    MaxBoxes,
    PresetName,
    detector_settings,
)
from .output import note, print_json, print_table

if TYPE_CHECKING:
    from ..core.reports import BuildReport

__all__ = ["build", "print_report", "print_skipped", "report_as_dict"]


def build(
    sources: Annotated[
        list[str],
        typer.Argument(help="Folders, images, globs, or .txt lists of paths.", metavar="PHOTOS..."),
    ],
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            "-i",
            help="Folder of the index (default: indexes/ and the name of the first PHOTOS).",
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
        int | None, typer.Option(min=1, help="Processes that decode images.")
    ] = None,
    batch_images: Annotated[int, typer.Option(min=1, help="Images in a batch of the models.")] = 16,
    shard_images: Annotated[int, typer.Option(min=1, help="Images in a shard.")] = 512,
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget images whose files have been deleted.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say what would be done; files are compared, not decoded."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Build an index over images, or add to one what is new or has changed.

    Example: retrieval-grounding build ~/Pictures --index indexes/pictures
    """
    from ..builder import build as build_index
    from ..builder import preview_build
    from ..core.reports import BuildOptions

    directory = index or Path("indexes") / (Path(sources[0]).absolute().stem or "images")
    chosen: dict[str, Any] = {"workers": workers} if workers else {}
    options = BuildOptions(
        batch_images=batch_images, shard_images=shard_images, prune=prune, **chosen
    )
    if dry_run:
        report = preview_build(sources, directory, options=options)
        _show_report(report, directory, as_json, dry_run=True)
        return
    try:
        built = build_index(
            sources,
            directory,
            preset=preset,
            detector=detector,
            clip=clip,
            settings=detector_settings(confidence, iou, max_boxes),
            device=device,
            options=options,
        )
    except BuildInterrupted as stopped:
        _show_report(stopped.report, directory, as_json)
        typer.echo("stopped: all of this is safe, build again to go on", err=True)
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        typer.echo("stopped: finished shards are safe, build again to go on", err=True)
        raise typer.Exit(130) from None
    assert built.build_report is not None
    _show_report(built.build_report, directory, as_json, len(built))


def report_as_dict(report: BuildReport) -> dict[str, Any]:
    """Return a report as plain values, for JSON."""
    return {
        "found": report.found,
        "unchanged": report.unchanged,
        "added": report.added,
        "updated": report.updated,
        "moved": report.moved,
        "duplicates": report.duplicates,
        "missing": report.missing,
        "pruned": report.pruned,
        "embedded": report.embedded,
        "regions": report.regions,
        "seconds": round(report.seconds, 3),
        "images_per_second": round(report.images_per_second, 2),
        "skipped": [
            {"path": file.path, "reason": file.reason, "detail": file.detail}
            for file in report.skipped
        ],
    }


def _show_report(
    report: BuildReport,
    directory: Path,
    as_json: bool,
    images: int | None = None,
    dry_run: bool = False,
) -> None:
    if as_json:
        print_json(report_as_dict(report) | {"index": str(directory), "dry_run": dry_run})
    else:
        print_report(report, directory, images, dry_run)


def print_report(
    report: BuildReport, directory: Path, images: int | None = None, dry_run: bool = False
) -> None:
    """Print what a build did, or would do; `images` are those of the index afterwards."""
    done = {
        "to add" if dry_run else "added": report.added,
        "to update" if dry_run else "updated": report.updated,
        "moved": report.moved,
        "of known content": report.duplicates,
    }
    gone = len(report.missing)
    if report.pruned:
        done["to forget" if dry_run else "forgotten"] = gone
        gone = 0
    seen = {
        "unchanged": report.unchanged,
        "skipped": len(report.skipped),
        "missing (--prune forgets them)": gone,
    }
    told = [] if any(done.values()) else ["nothing new"]
    told += [f"{number:,} {name}" for name, number in (done | seen).items() if number]
    line = ", ".join(told)
    if report.embedded:
        line += (
            f"; {counted(report.regions, 'region')} in {report.seconds:.1f} s "
            f"({report.images_per_second:.1f} images/s)"
        )
    if images is not None:
        line += f"; {counted(images, 'image')} in the index"
    typer.echo(f"{directory}: {line}")
    if dry_run:
        note("Nothing was written or decoded: new files that are damaged count as to add.")
    print_skipped([(file.path, file.reason, file.detail) for file in report.skipped])


def print_skipped(rows: list[tuple[str, str, str]]) -> None:
    """Print paths, reasons and details of skipped files, if there are any."""
    if rows:
        print_table(("skipped", "reason", "detail"), rows)
