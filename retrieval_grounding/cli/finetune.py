"""The commands ``finetune clip`` and ``finetune yolo``."""

from __future__ import annotations

import typer

__all__ = ["finetune"]

finetune = typer.Typer(
    name="finetune",
    help="Fine-tune the models themselves on images and expressions of your own.",
    no_args_is_help=True,
)


@finetune.command()
def clip() -> None:
    """Fine-tune a CLIP model on regions and what people call them."""


@finetune.callback()
def _root() -> None:
    pass
