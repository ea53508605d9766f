#!/usr/bin/env python3
"""Measure the bundled models, beside published detectors, on photographs with ground truth.

Prints the tables of ``docs/models.md``. Needs the development data (photographs with COCO boxes,
referring expressions, training photographs), which are not part of the project:

    python scripts/measure_nano.py --data ../shared
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from nano.pairs import held_out_photos
from nano.texts import COCO_NAMES, read_captions
from PIL import Image
from rich.console import Console
from rich.table import Table

import retrieval_grounding as rg
from retrieval_grounding.matching.matcher import CosineMatcher
from retrieval_grounding.models.presets import bundled_path

TRAINING_SEED = 0

Truth = list[tuple[Path, np.ndarray, np.ndarray]]
"""Photograph, classes (n,) and boxes (n, 4) in pixels."""


def read_truth(folder: Path) -> Truth:
    """Read YOLO-format labels beside photographs."""
    truth = []
    for path in sorted((folder / "images").iterdir()):
        file = folder / "labels" / f"{path.stem}.txt"
        text = file.read_text() if file.exists() else ""
        rows = np.array([line.split() for line in text.splitlines()], float).reshape(-1, 5)
        with Image.open(path) as image:
            sides = np.array([*image.size] * 2)
        centers, halves = rows[:, 1:3], rows[:, 3:5] / 2
        boxes = np.concatenate([centers - halves, centers + halves], axis=1) * sides
        truth.append((path, rows[:, 0].astype(int), boxes.clip(0, sides)))
    return truth


def crop_accuracy(truth: Truth, encoder: rg.Encoder) -> dict[str, float]:
    """Name ground-truth crops of at least 20 px a side among the 80 COCO names."""
    images, regions, wanted = [], [], []
    for path, classes, boxes in truth:
        large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= 20
        if large.any():
            images.append(rg.load_image(path))
            found = boxes[large]
            regions.append(rg.Regions(found, np.ones(len(found)), [""] * len(found)))
            wanted += classes[large].tolist()
    started = time.perf_counter()
    embeddings = encoder.encode_regions(images, regions)
    result = {"crops": len(wanted), "crops/s": len(wanted) / (time.perf_counter() - started)}
    for template in ("{}", "a photo of a {}"):
        names = encoder.encode_phrases([template.format(name) for name in COCO_NAMES])
        result[f"top-1 '{template}'"] = float(((embeddings @ names.T).argmax(1) == wanted).mean())
    return result


def retrieval_recall(photos: Path, held_out: list[str], encoder: rg.Encoder) -> dict[str, float]:
    """Find held-out photographs by their captions."""
    number = {name: position for position, name in enumerate(held_out)}
    captions = [
        (number[name], caption)
        for line in (photos / "captions.tsv").read_text(encoding="utf-8").splitlines()
        for name, caption in [line.split("\t", 1)]
        if name in number
    ]
    images = []
    for start in range(0, len(held_out), 100):
        loaded = [rg.load_image(photos / name) for name in held_out[start : start + 100]]
        whole = [rg.Regions.whole_image(*image.size) for image in loaded]
        images.append(encoder.encode_regions(loaded, whole))
    scores = encoder.encode_phrases([text for _, text in captions]) @ np.concatenate(images).T
    own = scores[np.arange(len(captions)), [row for row, _ in captions]]
    ranks = (scores > own[:, None]).sum(axis=1)
    recalls = {f"R@{k}": float((ranks < k).mean()) for k in (1, 5, 10)}
    return {"photographs": len(held_out), "captions": len(captions), **recalls}


def detector_recall(truth: Truth, detector: rg.Detector) -> dict[str, float]:
    """Count ground-truth boxes of at least 1 % of the image that a region overlaps by half."""
    best: dict[int, list[float]] = defaultdict(list)
    boxes_an_image, named = [], []
    images = [rg.load_image(path) for path, _, _ in truth]
    started = time.perf_counter()
    detected = [detector.detect([image])[0] for image in images]
    seconds = time.perf_counter() - started
    for (_, classes, boxes), image, regions in zip(truth, images, detected, strict=True):
        boxes_an_image.append(len(regions) - 1)
        sides = boxes[:, 2:] - boxes[:, :2]
        large = sides.prod(axis=1) >= 0.01 * image.width * image.height
        if not large.any():
            continue
        iou = rg.pairwise_iou(boxes[large], regions.boxes)
        for limit in (30, 50):
            best[limit] += iou[:, : limit + 1].max(axis=1).tolist()
        names = np.array([COCO_NAMES[number] for number in classes[large]])
        same = names[:, None] == np.array(regions.labels)[None]
        named += (iou * same).max(axis=1).tolist()
    return {
        "truth": len(best[50]),
        "boxes/image": float(np.mean(boxes_an_image)),
        "recall@0.5, 50 boxes": float(np.mean(np.array(best[50]) >= 0.5)),
        "30 boxes": float(np.mean(np.array(best[30]) >= 0.5)),
        "right class": float(np.mean(np.array(named) >= 0.5)),
        "best IoU": float(np.mean(best[50])),
        "images/s": len(truth) / seconds,
    }


def grounding(data: Path, detector: rg.Detector, encoder: rg.Encoder) -> dict[str, dict]:
    """Ground referring expressions by cosine, with at most 30 boxes and the whole image."""
    expressions = defaultdict(list)
    for line in (data / "refs" / "refs.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        expressions[record["image"]].append(record)
    results: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    for name, records in expressions.items():
        image = rg.load_image(data / "refs" / "images" / name)
        [regions] = detector.detect([image])
        regions = regions[: 30 + 1]
        embeddings = encoder.encode_regions([image], [regions])
        phrases = encoder.encode_phrases([record["expression"] for record in records])
        for record, scores in zip(records, phrases @ embeddings.T, strict=True):
            x, y, width, height = record["bbox_xywh"]
            iou = rg.pairwise_iou([[x, y, x + width, y + height]], regions.boxes)[0]
            boxes_only = float(iou[1:][scores[1:].argmax()]) if len(iou) > 1 else float(iou[0])
            largest = int(regions.areas[1:].argmax()) + 1 if len(iou) > 1 else 0
            found = (float(iou[scores.argmax()]), boxes_only, float(iou[largest]), float(iou.max()))
            results[f"{record['dataset']} {record['split']}"].append(found)
    table = {}
    for split, rows in results.items():
        values = np.array(rows)
        columns = ("mean IoU", "boxes only", "largest box", "oracle")
        table[split] = {"n": len(rows), **dict(zip(columns, values.mean(axis=0), strict=True))}
        table[split]["Acc@0.5"] = float((values[:, 0] >= 0.5).mean())
    return table


def gallery(truth: Truth, photos: Path, detector: str, clip: str) -> dict[str, float]:
    """Build an index, ask the class names that occur, and look whether the first hit has one."""
    classes = {str(path.resolve()): set(found.tolist()) for path, found, _ in truth}
    present = sorted(set().union(*classes.values()))
    with tempfile.TemporaryDirectory() as folder:
        index = rg.build(photos, folder, detector=detector, clip=clip)
        report = index.build_report
        assert report is not None
        names = [COCO_NAMES[number] for number in present]
        answers = {
            "cosine": index.query(names, top=1, matcher=CosineMatcher()),
            index.matcher.name: index.query(names, top=1),
        }
    right = {
        f"first hit right, {name}": float(
            np.mean(
                [
                    number in classes[str(Path(hits[0].image).resolve())]
                    for number, hits in zip(present, found, strict=True)
                ]
            )
        )
        for name, found in answers.items()
    }
    return {
        "names": len(present),
        **right,
        "images/s": report.images_per_second,
        "regions/image": report.regions / report.added,
    }


def at_input_size(size: int, folder: Path, device: str) -> rg.Encoder:
    """Load nano's weights with another input size: its image tower takes any."""
    copied = folder / str(size)
    shutil.copytree(bundled_path("clip"), copied)
    file = copied / "open_clip_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["model_cfg"]["vision_cfg"]["image_size"] = size
    file.write_text(json.dumps(config), encoding="utf-8")
    return rg.load_encoder(str(copied), device)


def input_sizes(
    truth: Truth, photos: Path, held_out: list[str], device: str
) -> dict[str, dict[str, float]]:
    """Compare accuracy and speed of nano's weights at other input sizes."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in (128, 160, 192, 224):
            encoder = at_input_size(size, Path(folder), device)
            recall = retrieval_recall(photos, held_out, encoder)
            rows[f"{size} px"] = crop_accuracy(truth, encoder) | {"R@10": recall["R@10"]}
    return rows


def print_table(title: str, rows: dict[str, dict]) -> None:
    """Print rows of named figures."""
    table = Table(title=title, title_justify="left")
    columns = list(next(iter(rows.values())))
    for column in ("", *columns):
        table.add_column(column)
    for name, row in rows.items():
        cells = [f"{row[c]:.3f}" if isinstance(row[c], float) else str(row[c]) for c in columns]
        table.add_row(name, *cells)
    Console(width=140).print(table)


def main() -> None:
    """Print all tables, and JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--clip", default="nano")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sizes", action="store_true", help="also try other input sizes")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    data = options.data
    truth = read_truth(data / "coco_val128")
    encoder = rg.load_encoder(options.clip, options.device)
    weights = {"nano": "nano"} | {
        name: str(data / "weights" / f"{name}-coco-dequantized.pt")
        for name in ("yolo11n", "yolov5nu")
    }
    single_things = rg.DetectorSettings(groups=False)
    recall_settings = rg.DetectorSettings(confidence=0.01, groups=False)
    train_photos = data / "train_photos"
    captions = read_captions(train_photos / "captions.tsv")
    held_out = sorted(held_out_photos(captions, TRAINING_SEED))
    tables = {
        "Encoder: ground-truth crops of coco_val128": {options.clip: crop_accuracy(truth, encoder)},
        "Encoder: captions of held-out photographs": {
            options.clip: retrieval_recall(train_photos, held_out, encoder)
        },
        "Detectors: coco_val128, boxes of at least 1 % of the image": {
            name: detector_recall(truth, rg.load_detector(path, recall_settings, options.device))
            for name, path in weights.items()
        },
        "Gallery: coco_val128, the COCO names that occur": {
            f"{name} + {options.clip}": gallery(
                truth, data / "coco_val128" / "images", path, options.clip
            )
            for name, path in weights.items()
        },
    }
    for name in ("yolo11n", "nano"):
        tables[f"Grounding by cosine, {name} boxes (at most 30)"] = grounding(
            data, rg.load_detector(weights[name], single_things, options.device), encoder
        )
    if options.sizes:
        tables["Encoder: input sizes"] = input_sizes(truth, train_photos, held_out, options.device)
    for title, rows in tables.items():
        print_table(title, rows)
    if options.json:
        options.json.write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
