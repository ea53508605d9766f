"""Write pseudo-labels: what a published YOLO finds in the training photographs."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from ultralytics import YOLO

IMAGE_SIZE = 384
CONFIDENCE = 0.05
OVERLAP = 0.6  # boxes of one class that overlap more are duplicates
MOST_BOXES = 60
BATCH = 16


def write_labels(photos: Path, weights: Path, output: Path, *, device: str) -> None:
    """Detect objects in every photograph and write them to one NumPy archive.

    The archive holds `names` (sorted file names), `counts` (boxes of each file) and `rows`, the
    boxes of all files in that order: x1, y1, x2, y2 in pixels, confidence, class, image width,
    image height.

    Parameters
    ----------
    photos
        Folder of photographs (``*.webp``).
    weights
        Checkpoint of the YOLO that labels.
    output
        The ``.npz`` file to write.
    device
        Torch device to detect on.
    """
    by_size: dict[tuple[int, int], list[Path]] = defaultdict(list)  # equal sizes batch together
    for path in sorted(photos.glob("*.webp")):
        with Image.open(path) as image:
            by_size[image.size].append(path)
    model = YOLO(weights)
    found: dict[str, np.ndarray] = {}
    for size, paths in by_size.items():
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            results = model.predict(
                [Image.open(path).convert("RGB") for path in batch],
                imgsz=IMAGE_SIZE,
                conf=CONFIDENCE,
                iou=OVERLAP,
                max_det=MOST_BOXES,
                device=device,
                verbose=False,
            )
            for path, result in zip(batch, results, strict=True):
                boxes = result.boxes.data.cpu().numpy()
                sizes = np.tile(np.asarray(size, np.float32), (len(boxes), 1))
                found[path.name] = np.concatenate([boxes, sizes], axis=1)
    names = sorted(found)
    np.savez(
        output,
        names=np.array(names),
        counts=np.array([len(found[name]) for name in names]),
        rows=np.concatenate([found[name] for name in names]),
    )
