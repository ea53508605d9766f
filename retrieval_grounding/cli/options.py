"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import GroundingError
from ..core.output_file import check_suffix
from ..models.presets import PRESETS

if TYPE_CHECKING:
    from ..models.detector import DetectorSettings

__all__ = [
    "ClipName",
    "Confidence",
    "DetectorName",
    "Device",
    "FirstSentence",
    "Html",
    "IndexClip",
    "IndexDirectory",
    "Iou",
    "Json",
    "MaxBoxes",
    "MinProbability",
    "OneObject",
    "PhraseArguments",
    "PresetName",
    "ShardImages",
    "Split",
    "Wait",
    "detector_settings",
]


IndexDirectory = Annotated[Path, typer.Argument(help="Directory of the index.", metavar="INDEX")]
Device = Annotated[str, typer.Option(help="Where the models run: auto, cpu, cuda or cuda:N.")]


def _check_html(path: Path | None) -> Path | None:
    """Refuse a name such as ``page.png`` before the work begins."""
    if path is not None:
        try:
            check_suffix(path, "text/html")
        except GroundingError as error:
            raise typer.BadParameter(str(error)) from error
    return path


Html = Annotated[
    Path | None,
    typer.Option(
        "--html",
        help="Also write an HTML page with pictures to this file.",
        callback=_check_html,
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        min=0,
        metavar="SECONDS",
        help="How long to wait while a different writer is at work on the index.",
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
    float, typer.Option(min=0, max=1, help="Drop hits with a lower probability.")
]

# Models
PresetName = Annotated[
    str | None,
    typer.Option("--preset", "-p", help=f"Pair of models: {', '.join(PRESETS)}; see 'models'."),
]
DetectorName = Annotated[
    str | None,
    typer.Option("--detector", help="A .pt file, a published name such as yolo11s.pt, or nano."),
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
    confidence: float | None, iou: float | None, max_boxes: int | None
) -> DetectorSettings | None:
    """Return the settings if one of them was given; otherwise an index keeps its own."""
    from ..models.detector import DetectorSettings

    given = {"confidence": confidence, "iou": iou, "max_boxes": max_boxes}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return DetectorSettings(**chosen) if chosen else None
