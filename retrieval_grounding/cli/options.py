"""Options that several commands take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import GroundingError
from ..core.hits import EXPORTS, MIN_PROBABILITY
from ..core.output_file import check_suffix
from ..core.paths import expand_home
from ..models.presets import PRESETS

if TYPE_CHECKING:
    from ..models.detector import DetectorSettings

__all__ = [
    "Classes",
    "ClipName",
    "Confidence",
    "Crops",
    "DetectorName",
    "Device",
    "Export",
    "FirstSentence",
    "Html",
    "IndexClip",
    "IndexDirectory",
    "Iou",
    "Json",
    "MaxBoxes",
    "MinProbability",
    "NoGroups",
    "OneObject",
    "OpenPage",
    "Paths",
    "PhraseArguments",
    "PresetName",
    "Print0",
    "ShardImages",
    "Split",
    "Wait",
    "Yolo",
    "check_image_first",
    "check_index_first",
    "class_names",
    "detector_settings",
    "index_directory",
]


def index_directory(text: str) -> Path:
    """Return the path of an index; shells leave the ``~`` in ``--index=~/x`` as it is."""
    if not text:
        raise typer.BadParameter("an empty path names no index")
    return Path(expand_home(text))


IndexDirectory = Annotated[
    Path, typer.Argument(help="Directory of the index.", metavar="INDEX", parser=index_directory)
]
Device = Annotated[str, typer.Option(help="Where the models run: auto, cpu, cuda or cuda:N.")]


def _check_html(path: Path | None) -> Path | None:
    """Refuse a name such as ``page.png`` before the work begins."""
    if path is not None:
        try:
            check_suffix(path, "text/html")
        except GroundingError as error:
            raise typer.BadParameter(str(error)) from error
    return path


def _check_export(path: Path | None) -> Path | None:
    """Refuse a name whose suffix is no format of hits before the work begins."""
    if path is not None and path.suffix.lower() not in EXPORTS:
        raise typer.BadParameter(f"use a name that ends in {', '.join(EXPORTS)}, not {path}")
    return path


Html = Annotated[
    Path | None,
    typer.Option(
        "--html",
        help="Also write an HTML page with pictures to this file.",
        callback=_check_html,
    ),
]
OpenPage = Annotated[bool, typer.Option("--open", help="Show the hits on a page in a browser.")]
Export = Annotated[
    Path | None,
    typer.Option(
        "--export",
        metavar="FILE",
        help="Also write hits to a .csv, .parquet, or .json (COCO) file.",
        callback=_check_export,
    ),
]
Crops = Annotated[
    Path | None,
    typer.Option(
        "--crops", metavar="DIR", help="Also write the regions as pictures: a new folder, or .zip."
    ),
]
Yolo = Annotated[
    Path | None,
    typer.Option(
        "--yolo", metavar="DIR", help="Also write a data set for YOLO: a new folder, or .zip."
    ),
]
Paths = Annotated[bool, typer.Option("--paths", help="Print only the paths, each once, for xargs.")]
Print0 = Annotated[
    bool, typer.Option("--print0", "-0", help="Like --paths, with NUL after each, for 'xargs -0'.")
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        min=0,
        metavar="SECONDS",
        help="How long to wait if another writer is at work on the index.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

# Phrases and their hits
PhraseArguments = Annotated[
    list[str],
    typer.Argument(
        help="What to find. Each argument is one phrase, so quote phrases of several words.",
        metavar="PHRASE",
    ),
]
MinProbability = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Drop images that show it with a lower probability (default "
        f"{MIN_PROBABILITY}); 0 keeps all.",
    ),
]

# Models
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        "-p",
        help=f"Pair of models: {', '.join(PRESETS)}; see 'models'.",
        autocompletion=lambda: list(PRESETS),
    ),
]
DetectorName = Annotated[
    str | None,
    typer.Option(
        "--detector",
        help="A .pt file, a published name such as yolo11s.pt or yoloe-11l-seg-pf.pt, or nano.",
    ),
]
ClipName = Annotated[
    str | None,
    typer.Option(
        "--clip", help="MODEL:PRETRAINED, MODEL:FILE, hf-hub:ORG/NAME, a folder, or nano."
    ),
]
IndexClip = Annotated[
    str | None,
    typer.Option(
        "--clip",
        help="The CLIP model that built the index, if the index names weights of your own or they "
        "have moved. Naming it is consent to load it.",
    ),
]
Confidence = Annotated[
    float | None, typer.Option(help="Drop boxes with a lower score (default 0.05).")
]
Iou = Annotated[
    float | None, typer.Option(help="Merge boxes whose IoU is higher than this (default 0.6).")
]
MaxBoxes = Annotated[int | None, typer.Option(help="Boxes per image, at most (default 50).")]


def class_names(text: str) -> list[str]:
    """Return the names of an option: separated by commas, or one per line of a ``.txt`` file."""
    if text.lower().endswith(".txt"):
        try:
            lines = Path(expand_home(text)).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{text} cannot be read: {error}") from error
    else:
        lines = text.split(",")
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise typer.BadParameter(f"{text!r} has no names; write such as 'cup,red plate'")
    return names


Classes = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Detect only these of the detector's names: separated by commas, or a .txt file with "
        "one per line.",
    ),
]
NoGroups = Annotated[
    bool,
    typer.Option(
        "--no-groups", help='Add no boxes around all things of a kind, such as "two dogs".'
    ),
]

# Shards
ShardImages = Annotated[int, typer.Option(min=1, help="Images per shard.")]

# Referring expressions
Split = Annotated[
    list[str] | None, typer.Option("--split", help="Use only this split; repeatable.")
]
FirstSentence = Annotated[
    bool, typer.Option("--first-sentence", help="Use one expression per object.")
]
OneObject = Annotated[bool, typer.Option("--one-object", help="Use one object per image.")]


def detector_settings(
    confidence: float | None,
    iou: float | None,
    max_boxes: int | None,
    no_groups: bool,
    classes: str | None = None,
) -> DetectorSettings | None:
    """Return the settings if one of them was given; otherwise an index keeps its own."""
    from ..models.detector import DetectorSettings

    given = {"confidence": confidence, "iou": iou, "max_boxes": max_boxes}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if no_groups:
        chosen["groups"] = False
    if classes is not None:
        chosen["classes"] = tuple(class_names(classes))
    return DetectorSettings(**chosen) if chosen else None


def check_index_first(index: Path, others: Sequence[str]) -> None:
    """Refuse arguments in the wrong order: another one is an index, and the first is not.

    Raises
    ------
    typer.BadParameter
    """
    if _is_index(str(index)):
        return
    if found := next((text for text in others if _is_index(text)), None):
        raise typer.BadParameter(
            f"the index comes first: {str(index)!r} is not an index, but {found!r} is"
        )


def check_image_first(image: str, others: Sequence[str]) -> None:
    """Refuse arguments in the wrong order: another one is a file, and the first is not.

    Raises
    ------
    typer.BadParameter
    """
    if os.path.exists(image):  # noqa: PTH110 - unlike Path.exists, False for what cannot be a name
        return
    if found := next((text for text in others if os.path.isfile(text)), None):  # noqa: PTH113
        raise typer.BadParameter(
            f"the image comes first: {image!r} is not a file, but {found!r} is"
        )


def _is_index(text: str) -> bool:
    from ..storage.open_catalog import CATALOG_FILE

    return os.path.isfile(os.path.join(text, CATALOG_FILE))  # noqa: PTH113, PTH118
