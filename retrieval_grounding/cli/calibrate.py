"""The command ``calibrate``."""

from __future__ import annotations

from typing import Annotated

import typer

from .logs import Verbose
from .options import Device, IndexClip, IndexDirectory, Json, Wait
from .output import print_json, say

__all__ = ["calibrate"]


def calibrate(
    index: IndexDirectory,
    reset: Annotated[
        bool, typer.Option("--reset", help="Forget what an earlier calibration has fitted.")
    ] = False,
    clip: IndexClip = None,
    device: Device = "auto",
    wait: Wait = 0.0,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Fit probabilities to the images of an index, without labels, from pseudo-queries.

    Example: retrieval-grounding calibrate indexes/pictures
    """
    from ..index import Index

    opened = Index.open(index, encoder=clip, device=device)
    if reset:
        opened.reset_calibration(timeout=wait)
        fitted = None
    else:
        fitted = opened.calibrate(timeout=wait).as_dict()
    if as_json:
        print_json({"index": str(index), "calibration": fitted})
    elif reset:
        say(f"{index}: probabilities are those of the matcher again")
    else:
        say(f"{index}: probabilities are fitted to this collection; --reset undoes it")
