"""The command line. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from .commands import learning, maintenance
from .commands.shared import Device, Html, IndexDirectory, Json, printable
from .commands.shared import print_json as _print_json
from .commands.shared import print_table as _print_table
from .errors import BuildInterrupted, GroundingError
from .presets import DEFAULT_PRESET, PRESETS

if TYPE_CHECKING:
    from .building import BuildReport
    from .detectors import DetectorSettings
    from .hits import Hit

app = typer.Typer(
    name="retrieval-grounding",
    help="Find the region a phrase refers to, in a whole collection of images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PresetName = Annotated[
    str | None, typer.Option("--preset", "-p", help=f"{', '.join(PRESETS)}; see 'models'.")
]
DetectorName = Annotated[
    str | None,
    typer.Option("--detector", help="A .pt file, a published name such as yolo11s.pt, or nano."),
]
ClipName = Annotated[
    str | None,
    typer.Option("--clip", help="MODEL:PRETRAINED, MODEL:FILE, hf-hub:ORG/NAME, a folder, nano."),
]
Confidence = Annotated[
    float | None, typer.Option(help="Drop boxes below this score (default 0.05).")
]
Iou = Annotated[float | None, typer.Option(help="Merge boxes that overlap more (default 0.6).")]
MaxBoxes = Annotated[int | None, typer.Option(help="Boxes kept an image (default 50).")]
MinProbability = Annotated[
    float, typer.Option(min=0, max=1, help="Leave out hits that are less probable.")
]
Top = Annotated[int, typer.Option("--top", "-k", min=1, help="Hits for each phrase.")]


@app.command()
def build(
    sources: Annotated[
        list[str],
        typer.Argument(help="Folders, images, globs, or .txt lists of paths.", metavar="PHOTOS..."),
    ],
    index: Annotated[
        Path | None,
        typer.Option("--index", "-i", help="Folder of the index [default: indexes/NAME]."),
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
        bool, typer.Option("--dry-run", help="Only say what would be done.")
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
        _show_report(preview_build(sources, directory, options=options), directory, as_json, True)
        return
    try:
        built = build_index(
            sources,
            directory,
            preset=preset,
            detector=detector,
            clip=clip,
            settings=_settings(confidence, iou, max_boxes),
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
    _show_report(built.build_report, directory, as_json)


@app.command()
def query(
    index: IndexDirectory,
    phrases: Annotated[list[str], typer.Argument(help="What to find.", metavar="PHRASE...")],
    top: Top = 10,
    candidates: Annotated[
        int, typer.Option(min=1, help="Images of which all regions are scored.")
    ] = 100,
    min_probability: MinProbability = 0.0,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare every region with each phrase.")
    ] = False,
    device: Device = "auto",
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Find the regions that phrases refer to, over a whole index.

    Example: retrieval-grounding query indexes/pictures "a man holding a red umbrella"
    """
    from .index import Index

    found = Index.open(index, device=device).query(
        phrases, top=top, candidates=candidates, min_probability=min_probability, exact=exact
    )
    _show(dict(zip(phrases, found, strict=True)), html, as_json)


@app.command()
def ground(
    image: Annotated[Path, typer.Argument(help="An image file.", metavar="IMAGE")],
    phrases: Annotated[list[str], typer.Argument(help="What to find.", metavar="PHRASE...")],
    preset: PresetName = DEFAULT_PRESET,
    detector: DetectorName = None,
    clip: ClipName = None,
    confidence: Confidence = None,
    iou: Iou = None,
    max_boxes: MaxBoxes = None,
    min_probability: MinProbability = 0.0,
    device: Device = "auto",
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the image with the first box drawn.")
    ] = None,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Find the region of one image that a phrase refers to; no index is needed.

    Example: retrieval-grounding ground street.jpg "the dog on the left" --save out.png
    """
    from .grounding import ground as ground_image
    from .querying import probable_hits

    hits = ground_image(
        image,
        phrases,
        preset=preset or DEFAULT_PRESET,
        detector=detector,
        clip=clip,
        settings=_settings(confidence, iou, max_boxes),
        device=device,
    )
    found = {hit.phrase: probable_hits([hit], min_probability) for hit in hits}
    best = [hit for kept in found.values() for hit in kept]
    if save is not None and best:
        from .rendering import save_hit

        save_hit(best[0], save)
    _show(found, html, as_json)


@app.command()
def info(index: IndexDirectory, as_json: Json = False) -> None:
    """Say what an index holds, which models built it, and which files were skipped."""
    from .index import Index

    opened = Index.open(index)
    facts = opened.info()
    skipped = [{"path": f.path, "reason": f.reason, "detail": f.detail} for f in opened.skipped()]
    if as_json:
        _print_json(facts | {"skipped_files": skipped})
        return
    vectors = facts["vectors"]
    facts["vectors"] = ", ".join(f"{key} {value}" for key, value in vectors.items())
    _print_table(("", ""), [(key, str(value)) for key, value in facts.items()])
    _print_skipped([(f["path"], f["reason"], f["detail"]) for f in skipped])


@app.command()
def models(as_json: Json = False) -> None:
    """List the presets: names of a detector and of a CLIP model."""
    if as_json:
        _print_json([vars(preset) for preset in PRESETS.values()])
        return
    rows = [(p.name, p.detector, p.clip, p.summary) for p in PRESETS.values()]
    _print_table(("preset", "detector", "clip", ""), rows)


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

    report, hits = run_demo(output, folder or [])
    if as_json:
        _print_json({"build": _report_dict(report), "hits": [hit.as_dict() for hit in hits]})
        return
    _print_report(report, output / "index")
    _print_hits(hits)
    typer.echo(f"The page with the pictures: {output / 'demo.html'}")


for command in (*learning.COMMANDS, *maintenance.COMMANDS):
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


def _settings(
    confidence: float | None, iou: float | None, max_boxes: int | None
) -> DetectorSettings | None:
    """Return settings if one of them was given; an index keeps its own otherwise."""
    from .detectors import DetectorSettings

    given = {"confidence": confidence, "iou": iou, "max_boxes": max_boxes}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return DetectorSettings(**chosen) if chosen else None


def _show(found: dict[str, list[Hit]], html: Path | None, as_json: bool) -> None:
    hits = [hit for kept in found.values() for hit in kept]
    if html is not None:
        from .rendering import render_html

        render_html(hits, html)
    if as_json:
        _print_json([hit.as_dict() for hit in hits])
        return
    _print_hits(hits)
    for phrase, kept in found.items():
        if not kept:
            typer.echo(f"Nothing matches {phrase!r}.")
    if html is not None:
        typer.echo(f"The page with the pictures: {html}")


def _print_hits(hits: list[Hit]) -> None:
    if not hits:
        return
    rows = [
        (
            hit.phrase,
            "" if hit.probability is None else f"{hit.probability:.2f}",
            f"{hit.score:.3f}",
            hit.label,
            " ".join(f"{value:.0f}" for value in hit.box),
            hit.image,
        )
        for hit in hits
    ]
    _print_table(("phrase", "probability", "score", "label", "box x1 y1 x2 y2", "image"), rows)


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
    report: BuildReport, directory: Path, as_json: bool, dry_run: bool = False
) -> None:
    if as_json:
        _print_json(_report_dict(report) | {"index": str(directory), "dry_run": dry_run})
    else:
        _print_report(report, directory, dry_run)


def _print_report(report: BuildReport, directory: Path, dry_run: bool = False) -> None:
    numbers = [
        f"{report.added} {'to add' if dry_run else 'added'}",
        f"{report.updated} {'to update' if dry_run else 'updated'}",
        *([f"{report.moved} moved"] if report.moved else []),
        *([f"{report.duplicates} duplicates"] if report.duplicates else []),
        f"{report.unchanged} unchanged",
        f"{len(report.skipped)} skipped",
    ]
    if report.missing:
        fate = "to forget" if dry_run else "forgotten"
        fate = fate if report.pruned else "missing (--prune forgets them)"
        numbers.append(f"{len(report.missing)} {fate}")
    work = (
        ""
        if dry_run
        else (
            f"; {report.regions} regions in {report.seconds:.1f} s "
            f"({report.images_per_second:.1f} images/s)"
        )
    )
    typer.echo(f"{directory}: {', '.join(numbers)}{work}")
    _print_skipped([(file.path, file.reason, file.detail) for file in report.skipped])


def _print_skipped(rows: list[tuple[str, str, str]]) -> None:
    if rows:
        _print_table(("skipped", "reason", "detail"), rows)
