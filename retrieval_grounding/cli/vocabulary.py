"""The command ``vocabulary``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.text import counted
from .logs import Verbose
from .options import Device, Json, class_names
from .output import print_json, say

__all__ = ["vocabulary"]


def vocabulary(
    detector: Annotated[
        str,
        typer.Argument(
            help="A YOLO-World or YOLOE checkpoint, such as yolov8s-worldv2.pt.", metavar="DETECTOR"
        ),
    ],
    classes: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="What to detect: names separated by commas, or a .txt file with one per line.",
        ),
    ],
    text_model: Annotated[
        str,
        typer.Option(
            metavar="CLIP",
            help="The CLIP model whose text tower the detector was trained with, as for --clip: "
            "ViT-B-32-quickgelu:FILE for YOLO-World, MobileCLIP-B:FILE for YOLOE-11.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The .pt file to write.")
    ],
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Write a copy of an open-vocabulary detector that detects names of your own.

    Example: retrieval-grounding vocabulary yolov8s-worldv2.pt --classes "cup,red plate"
    --text-model ViT-B-32-quickgelu:ViT-B-32.pt -o cups.pt
    """
    if output.suffix.lower() != ".pt":
        raise typer.BadParameter(
            f"use a name that ends in .pt, not {output}", param_hint="--output"
        )
    names = list(dict.fromkeys(class_names(classes)))
    from ..models.open_vocabulary import write_vocabulary

    write_vocabulary(detector, names, text_model, output, device)
    if as_json:
        print_json({"output": str(output), "detector": detector, "names": names})
        return
    say(f"{output}: detects {counted(len(names), 'name')}; use it with --detector {output}")
