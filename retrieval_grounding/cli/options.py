"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..models.presets import PRESETS

if TYPE_CHECKING:
    from ..models.detector import DetectorSettings

__all__ = [
    "ClipName",
    "Confidence",
    "DetectorName",
    "Device",
    "Html",
    "IndexDirectory",
    "Iou",
    "Json",
    "MaxBoxes",
    "PresetName",
    "detector_settings",
]


IndexDirectory = Annotated[Path, typer.Argument(help="Folder of an index.", metavar="INDEX")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Html = Annotated[
    Path | None, typer.Option("--html", help="Also write one self-contained page with pictures.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]

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


def detector_settings(
    confidence: float | None, iou: float | None, max_boxes: int | None
) -> DetectorSettings | None:
    """Return settings if one of them was given; an index keeps its own otherwise."""
    from ..models.detector import DetectorSettings

    given = {"confidence": confidence, "iou": iou, "max_boxes": max_boxes}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return DetectorSettings(**chosen) if chosen else None
