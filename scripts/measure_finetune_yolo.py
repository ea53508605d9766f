"""Measure what fine-tuning YOLO gains on drawn scenes, whose shapes are none of COCO's classes.

Draws scenes with expressions as the tests do, fine-tunes on one set and measures on another:

    python scripts/measure_finetune_yolo.py
    python scripts/measure_finetune_yolo.py --detector yolo11n.pt --image-size 224

Ends with exit code 1 unless oracle recall@0.5 rises at every number of boxes, with an interval
clear of zero. Takes about a minute of one core with nano.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from retrieval_grounding.finetuning.yolo.options import YoloTuningOptions
from retrieval_grounding.finetuning.yolo.report import YoloTuning
from retrieval_grounding.finetuning.yolo.run import finetune_yolo

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from scenes import make_scenes, write_jsonl, write_scenes


def tune(options: argparse.Namespace, work: Path) -> YoloTuning:
    """Draw the scenes and fine-tune."""
    lines = write_scenes(make_scenes(options.scenes, 0), work / "images", "train")
    lines += write_scenes(make_scenes(options.held_out, 1), work / "images", "val")
    refs = write_jsonl(lines, work / "refs.jsonl")
    return finetune_yolo(
        work / "images",
        work / "tuned.pt",
        refs=refs,
        detector=options.detector,
        held_out=["val"],
        device=options.device,
        options=YoloTuningOptions(
            epochs=options.epochs,
            lr=options.lr,
            image_size=options.image_size,
            class_agnostic=options.class_agnostic,
        ),
    )


def main() -> None:
    """Read the options, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", default="nano")
    parser.add_argument("--scenes", type=int, default=80)
    parser.add_argument("--held-out", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--class-agnostic", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        report = tune(options, Path(folder))
    table = Table("measure", "before", "after", "gain", title=options.detector)
    for line in report.lines():
        table.add_row(*line)
    Console().print(table)
    print(
        f"{report.boxes[0]} shapes on {report.images[0]} scenes, {report.pseudo_boxes} "
        f"pseudo-boxes; {report.boxes[1]} shapes on {report.images[1]} held-out scenes; "
        f"{time.process_time() - started:.0f} s of processor time"
    )
    if report.kept_original or not all(gain.gain.low > 0 for gain in report.recall):
        sys.exit(1)


if __name__ == "__main__":
    main()
