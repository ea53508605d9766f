"""Crops of the training photographs, run once through the frozen part of the image tower."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from retrieval_grounding.core.colors import region_colors

WHOLE = -1
"""Class of a crop that shows the whole photograph."""

_MIN_CONFIDENCE = 0.25
_MIN_SIDE = 0.08
_CLEAR_COLOR = 0.45
_ENOUGH_OF_A_CLASS = 600
_MOST_VARIANTS = 4


@dataclass(frozen=True)
class Crops:
    """Crops with what is known of them.

    Parameters
    ----------
    features : float16 array of shape (n, channels, h, w)
        Output of the frozen layers. A mirrored map stands in well for that of a mirrored crop.
    photos : int array of shape (n,)
        Number of the photograph in `names`.
    labels : int array of shape (n,)
        COCO class, or WHOLE.
    colors : int array of shape (n,)
        Index in COLORS, or -1 where no color is clear.
    alone : bool array of shape (n,)
        The only detection of its class in the photograph.
    names : list of str
        Names of the photographs.
    """

    features: np.ndarray
    photos: np.ndarray
    labels: np.ndarray
    colors: np.ndarray
    alone: np.ndarray
    names: list[str]


def lower_layers(tower: nn.Module, blocks: int) -> nn.Module:
    """Return the stem and the first `blocks` stages of an EfficientNet."""
    return nn.Sequential(tower.conv_stem, tower.bn1, *list(tower.blocks)[:blocks])


def cache_crops(photos: Path, labels: Path, lower: nn.Module, size: int, device: str) -> Crops:
    """Cut, resize and run all crops, about 45,000.

    Of classes that have few crops, each is cut several times with looser and tighter boxes.

    Parameters
    ----------
    photos : Path
        Folder of photographs.
    labels : Path
        Pseudo-labels that ``labels.py`` wrote.
    lower : nn.Module
        The frozen layers.
    size : int
        Side of the square input in pixels.
    device : str
        Where to run.
    """
    table = np.load(labels)
    names = [str(name) for name in table["names"]]
    detections = np.split(table["rows"], np.cumsum(table["counts"])[:-1])
    variants = _variants(table["rows"])
    jobs = [
        (number, photos / names[number], rows, variants) for number, rows in enumerate(detections)
    ]
    lower = lower.eval().to(device).to(memory_format=torch.channels_last)
    parts, meta = [], []
    with ThreadPoolExecutor(2) as pool, torch.inference_mode():
        for start in range(0, len(jobs), 16):
            found = list(pool.map(lambda job: _photo_crops(*job, size), jobs[start : start + 16]))
            pixels = np.concatenate([crop[0] for crop in found])
            parts.append(_run(lower, pixels, device))
            meta += [row for crop in found for row in crop[1]]
            if start % 160 == 0:
                print(f"crops of {start + 16} / {len(jobs)} photographs", flush=True)
    facts = np.array(meta)
    return Crops(
        np.concatenate(parts), facts[:, 0], facts[:, 1], facts[:, 2], facts[:, 3] > 0, names
    )


def _run(lower: nn.Module, pixels: np.ndarray, device: str) -> np.ndarray:
    outputs = []
    for batch in torch.from_numpy(pixels).split(8):
        values = batch.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        outputs.append(lower(values).half().cpu())
    features: np.ndarray = torch.cat(outputs).contiguous().numpy()
    return features


def _photo_crops(
    number: int, path: Path, rows: np.ndarray, variants: np.ndarray, size: int
) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """Return (n, size, size, 3) pixels and (photo, label, color, alone) of each crop."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    width, height = image.size
    crops, meta = [], []
    for box, label, alone in _boxes(rows, variants, width, height, np.random.default_rng(number)):
        crops.append(_cut(image, box, size))
        shares = region_colors(image, box[None].clip(0).astype(np.float32))[0]
        clear = label != WHOLE and shares.max() >= _CLEAR_COLOR * 255
        meta.append((number, label, int(shares.argmax()) if clear else -1, int(alone)))
    return np.stack(crops), meta


def _variants(rows: np.ndarray) -> np.ndarray:
    """Return how often to cut a crop of each of the 80 classes."""
    labels = rows[rows[:, 4] >= _MIN_CONFIDENCE, 5].astype(int)
    counts = np.maximum(np.bincount(labels, minlength=80), 1)
    return np.clip(_ENOUGH_OF_A_CLASS // counts, 1, _MOST_VARIANTS)


def _boxes(
    rows: np.ndarray, variants: np.ndarray, width: int, height: int, random: np.random.Generator
) -> Iterator[tuple[np.ndarray, int, bool]]:
    yield np.array([0, 0, width, height], np.float64), WHOLE, True
    sides = np.minimum((rows[:, 2] - rows[:, 0]) / width, (rows[:, 3] - rows[:, 1]) / height)
    kept = rows[(rows[:, 4] >= _MIN_CONFIDENCE) & (sides >= _MIN_SIDE)]
    for row in kept:
        box, label = row[:4].astype(np.float64), int(row[5])
        alone = int((kept[:, 5] == label).sum()) == 1
        yield box, label, alone
        for _ in range(variants[label] - 1):
            spans = np.tile(box[2:] - box[:2], 2) * [-1, -1, 1, 1]
            yield box + spans * random.uniform(-0.08, 0.2, 4), label, alone


def _cut(image: Image.Image, box: np.ndarray, size: int) -> np.ndarray:
    limits = [image.width, image.height] * 2
    x1, y1, x2, y2 = np.clip(box, 0, limits)
    bounds = (x1, y1, max(x2, x1 + 1), max(y2, y1 + 1))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, bounds))
