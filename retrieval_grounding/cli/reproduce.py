"""The command ``reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .logs import Verbose
from .options import ClipName, DetectorName, Device, Json
from .output import note, print_json, print_table, say

if TYPE_CHECKING:
    from ..reproduction.datasets import DataSet
    from ..reproduction.locate import Located

__all__ = ["reproduce"]

_OWN = "expressions"


def reproduce(
    dataset: Annotated[
        str,
        typer.Argument(
            help="refcocog, refcoco, refcoco+, refclef, flickr30k-entities, or expressions for "
            "files of your own.",
            metavar="DATASET",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with expressions and photographs."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the photographs, if it is not in --data."),
    ] = None,
    refs: Annotated[
        list[Path] | None,
        typer.Option(
            "--refs",
            "-r",
            metavar="FILE",
            help="With 'expressions': .jsonl, .jsonl.gz, .csv files or folders; repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for index and report (default: reproductions/DATASET-PRESET).",
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", "-p", help="Pair of models; see 'models'.")
    ] = "seed",
    detector: DetectorName = None,
    clip: ClipName = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Use about N images, of every split its share."),
    ] = None,
    finetune: Annotated[
        list[str] | None,
        typer.Option(metavar="yolo|clip", help="Fine-tune this first; repeatable, in this order."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of every training.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed for all random choices.")] = 0,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what is needed, and whether it is there.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Build, train and evaluate on a published benchmark, and write one report.

    Nothing is downloaded but the models that the preset names: --check says who publishes the data.
    Only images that expressions are about are indexed. Every stage is done once, so a run that was
    interrupted continues when the command is repeated.

    Example: retrieval-grounding reproduce refcocog --data ~/refer --preset seed
    """
    from ..reproduction.datasets import get_dataset

    published = None if dataset == _OWN else get_dataset(dataset)
    if published is not None and refs:
        raise typer.BadParameter("--refs is for 'expressions'; name the folder with --data")
    if published is not None and (check or data is None):
        _show_parts(published, data, images, as_json)
        if not check:
            raise typer.BadParameter("name the folder that has these parts with --data")
        return
    located = _locate(published, data, images, refs or [])
    from ..reproduction.report import report_tables
    from ..reproduction.reproduce import ReproductionOptions
    from ..reproduction.reproduce import reproduce as run
    from ..reproduction.variants import Models

    folder = out or Path("reproductions") / f"{dataset}-{preset}"
    options = ReproductionOptions(
        Models(preset, detector, clip, device),
        limit=limit,
        finetune=finetune or (),
        epochs=epochs,
        seed=seed,
    )
    try:
        report = run(located, folder, options, note)
    except KeyboardInterrupt:
        note("stopped: repeat the command to continue")
        raise typer.Exit(130) from None
    if as_json:
        print_json(report)
        return
    for table in report_tables(report):
        say(table.title)
        print_table(table.header, table.rows, header_in_pipe=True)
        say()
    note(f"Wrote {folder / 'report.html'}, report.md and report.json")


def _locate(
    published: DataSet | None, data: Path | None, images: Path | None, refs: list[Path]
) -> Located:
    from ..reproduction.locate import locate, locate_files

    if published is not None:
        assert data is not None  # the command has asked for it
        return locate(published, data, images)
    folder = images or data
    if not refs or folder is None:
        raise typer.BadParameter("'expressions' needs --refs FILE and --images DIR")
    return locate_files(refs, folder)


def _show_parts(dataset: DataSet, data: Path | None, images: Path | None, as_json: bool) -> None:
    """Print what a data set consists of, and, if a folder is named, whether it is there."""
    from ..core.errors import SourceError
    from ..reproduction.locate import locate

    problem = ""
    found = None
    if data is not None:
        try:
            found = locate(dataset, data, images)
        except SourceError as error:
            problem = str(error)
    if as_json:
        parts = [vars(part) for part in dataset.parts]
        print_json(
            {
                "dataset": dataset.name,
                "parts": parts,
                "needs": dataset.needs,
                "images": dataset.image_count,
                "found": found is not None,
                "problem": problem or None,
            }
        )
    else:
        say(f"{dataset.title}: {dataset.image_count:,} photographs are described")
        folder = next(filter(None, dataset.folders))
        for part in dataset.parts:
            say(f"\n{part.name}")
            for line in (part.address, part.size, part.checksum, part.terms):
                if line:
                    say(f"  {line}")
        say(f"\nDIR/{folder} must have {dataset.needs}; DIR/{dataset.images[0]} the photographs.")
        if found is not None:
            for name, sources in found.sources.items():
                say(f"found {name}: {', '.join(map(str, sources))}")
            say(f"found photographs: {found.images}")
    if problem:
        note(f"error: {problem}")
        raise typer.Exit(1)
