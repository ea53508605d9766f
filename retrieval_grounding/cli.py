"""The command line. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from .commands import finding, learning, maintenance
from .commands.shared import (
    ClipName,
    Confidence,
    DetectorName,
    Device,
    IndexDirectory,
    Iou,
    Json,
    MaxBoxes,
    PresetName,
    detector_settings,
    note,
    print_json,
    print_table,
    printable,
)
from .errors import BuildInterrupted, GroundingError
from .presets import PRESETS
from .wording import counted

if TYPE_CHECKING:
    from .building import BuildReport

app = typer.Typer(
    name="retrieval-grounding",
    help="Find the region a phrase refers to, in a whole collection of images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
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
    from .building import BuildOptions
    from .making import build as build_index
    from .making import preview_build

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


@app.command()
def info(index: IndexDirectory, as_json: Json = False) -> None:
    """Say what an index holds, which models built it, and which files were skipped.

    Fingerprints and what was measured of the vector index are in --json.

    Example: retrieval-grounding info indexes/pictures
    """
    from .index import Index

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
    _print_skipped([(f["path"], f["reason"], f["detail"]) for f in skipped])


@app.command()
def models(as_json: Json = False) -> None:
    """List the presets: names of a detector and of a CLIP model."""
    if as_json:
        print_json([vars(preset) for preset in PRESETS.values()])
        return
    rows = [(p.name, p.detector, p.clip, p.summary) for p in PRESETS.values()]
    print_table(("preset", "detector", "clip", ""), rows)


@app.command()
def demo(
    folder: Annotated[
        list[str] | None, typer.Argument(help="More photographs.", metavar="[PHOTOS...]")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the index and the page go.")
    ] = Path("demo-output"),
    as_json: Json = False,
) -> None:
    """Index photographs that the installed packages carry, ask phrases, and write a page."""
    from .demo import run_demo

    index, hits = run_demo(output, folder or [])
    assert index.build_report is not None
    answers = [(hit.phrase, [hit]) for hit in hits]
    if as_json:
        report = _report_dict(index.build_report)
        print_json({"build": report, "answers": finding.answers_as_dicts(answers)})
        return
    _print_report(index.build_report, index.directory, len(index))
    finding.print_answers(answers)
    note(f"The page with the pictures: {output / 'demo.html'}")


for command in (*finding.COMMANDS, *learning.COMMANDS, *maintenance.COMMANDS):
    app.command()(command)


def main() -> None:
    """Run the command line; an error is one sentence on stderr and exit code 1."""
    import warnings

    # Pillow warns of images that are large but allowed; those that are not are skipped by name.
    warnings.filterwarnings("ignore", message=".*decompression bomb.*")
    try:
        app()
    except GroundingError as error:
        typer.echo(f"error: {printable(str(error))}", err=True)
        sys.exit(1)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        typer.echo(f"error: {error.strerror or error}{place}", err=True)
        sys.exit(1)


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _report_dict(report: BuildReport) -> dict[str, Any]:
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
        print_json(_report_dict(report) | {"index": str(directory), "dry_run": dry_run})
    else:
        _print_report(report, directory, images, dry_run)


def _print_report(
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
    _print_skipped([(file.path, file.reason, file.detail) for file in report.skipped])


def _print_skipped(rows: list[tuple[str, str, str]]) -> None:
    if rows:
        print_table(("skipped", "reason", "detail"), rows)
