#!/usr/bin/env python3
"""Time a build, the bare forwards of its models on the same inputs, and the naive loop.

    python scripts/bench_build.py                   # ViT-B/32 and YOLO11n with random weights
    python scripts/bench_build.py --preset nano     # the bundled models

Nothing is downloaded: where only speed matters, random weights serve. Pictures are drawn, or taken
from a folder with --images. The forwards run twice: as one calls a model, in batches on all of
PyTorch's threads, and as the build runs it, on a pool of single threads. On a CPU the latter is
the harder measure.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

import retrieval_grounding as rg
from retrieval_grounding.models.clip import OpenClipEncoder
from retrieval_grounding.models.cpu_pool import cpu_pool
from retrieval_grounding.models.device import describe_devices
from retrieval_grounding.models.yolo import UltralyticsDetector

_NAIVE_IMAGES = 16
"""The naive loop is slow enough to be timed on so few."""

Models = tuple[UltralyticsDetector, OpenClipEncoder]


def random_models(folder: Path, yolo: str, clip: str, device: str) -> Models:
    """Save random weights of published architectures, and load them as a user would."""
    import open_clip
    from ultralytics.models import YOLO

    torch.manual_seed(0)
    YOLO(f"{yolo}.yaml", task="detect").save(str(folder / f"{yolo}.pt"))
    torch.save(open_clip.create_model(clip).state_dict(), folder / "clip.pt")
    settings = rg.DetectorSettings(
        confidence=0.0, iou=0.99, max_boxes=19, image_size=640, groups=False
    )
    detector = rg.load_detector(str(folder / f"{yolo}.pt"), settings, device)
    return detector, rg.load_encoder(f"{clip}:{folder / 'clip.pt'}", device)


def draw_pictures(folder: Path, count: int) -> None:
    """Write JPEGs of 640 × 480 pixels that differ."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 255, (24, 32, 3), np.uint8)
        Image.fromarray(coarse).resize((640, 480)).save(folder / f"{number:05}.jpg")


def seconds(work: Callable[[], object], device: str) -> float:
    """Return how long `work` takes, the device's part included."""
    began = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - began


def forwards(models: Models, images: list[Image.Image], crops: int) -> dict[str, Callable]:
    """Return functions that run the bare networks on inputs that lie ready."""
    detector, encoder = models
    on_gpu = encoder.device.startswith("cuda")
    layout = torch.contiguous_format if on_gpu else torch.channels_last
    sizes = {image.size for image in images}
    shapes = {size: [im for im in images if im.size == size] for size in sizes}
    singles, batches = [], []
    for size, same in shapes.items():
        scale = detector.image_size / max(size)
        width, height = (-(-round(side * scale) // 32) * 32 for side in size)
        pixels = torch.rand(len(same), 3, height, width, device=detector.device)
        singles += pixels.contiguous(memory_format=layout).split(1)
        batches += pixels.contiguous(memory_format=layout).split(16)
    side = encoder.input_size
    inputs = torch.randn(256 if on_gpu else 64, 3, side, side, device=encoder.device)
    inputs = inputs.contiguous(memory_format=layout)
    pieces = [inputs[: min(len(inputs), crops - n)] for n in range(0, crops, len(inputs))]
    network, tower = detector._network, encoder._tower

    def encode(part: torch.Tensor) -> None:
        with torch.inference_mode():
            tower(part)

    def detect(part: torch.Tensor) -> None:
        with torch.inference_mode():
            detector._own_network()(part)

    def plain() -> None:
        launched = tower._network.get()._make_network() if on_gpu else tower
        with torch.inference_mode():
            for batch in batches:
                network(batch)
            for piece in pieces:
                launched(piece)

    def recorded() -> None:
        for batch in batches:
            detector._batches(batch)
        for piece in pieces:
            encode(piece)

    def pooled() -> None:
        cpu_pool().map(detect, singles)
        cpu_pool().map(encode, [part for piece in pieces for part in piece.split(4)])

    if on_gpu:
        return {"forwards, launched": plain, "forwards, recorded": recorded}
    return {"forwards": plain, "forwards on the pool": pooled}


def naive(models: Models, paths: list[Path]) -> None:
    """One image at a time, one crop at a time."""
    detector, encoder = models
    for path in paths:
        image = rg.load_image(path)
        [found] = detector.detect([image])
        for number in range(len(found)):
            encoder.encode_regions([image], [found[number]])


def measure(models: Models, paths: list[Path], repeat: int, device: str) -> dict[str, object]:
    """Return medians of several runs, each of which does everything once."""
    detector, encoder = models
    images = [rg.load_image(path) for path in paths]
    regions = detector.detect(images)
    encoder.encode_regions(images[:8], regions[:8])  # converts and warms up
    crops = sum(map(len, regions))
    few = paths[: min(max(1, len(paths) // 8), _NAIVE_IMAGES)]
    options = rg.BuildOptions(progress=False)
    works = forwards(models, images, crops)

    def build() -> None:
        with tempfile.TemporaryDirectory() as folder:
            built = rg.build(paths, folder, detector=detector, clip=encoder, options=options)
            took.append(built.build_report.seconds)

    took: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in ("naive", *works)}
    for _ in range(repeat):
        build()
        times["naive"].append(seconds(lambda: naive(models, few), device) * len(paths) / len(few))
        for name, work in works.items():
            times[name].append(seconds(work, device))
    whole = statistics.median(took)
    figures: dict[str, object] = {
        "images": len(paths),
        "crops": crops,
        "build images/s": round(len(paths) / whole, 2),
        "build crops/s": round(crops / whole, 1),
    }
    for name, several in times.items():
        figures[f"{name} / build"] = round(statistics.median(several) / whole, 2)
    figures["peak MB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    figures["runs on"] = describe_devices(detector, encoder)
    return figures


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=["nano"], help="instead of random weights")
    parser.add_argument("--yolo", default="yolo11n")
    parser.add_argument("--clip", default="ViT-B-32")
    parser.add_argument("--images", type=Path, help="a folder; by default pictures are drawn")
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.preset:
            models = (
                rg.load_detector("nano", None, options.device),
                rg.load_encoder("nano", options.device),
            )
        else:
            models = random_models(folder, options.yolo, options.clip, options.device)
        pictures = options.images or folder
        if options.images is None:
            draw_pictures(folder, options.count)
        paths = [Path(path) for path in rg.find_images(pictures)[: options.count]]
        figures = measure(models, paths, options.repeat, models[1].device)
    shown = Table("measure", "value")
    for key, value in figures.items():
        shown.add_row(key, str(value))
    Console().print(shown)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
