"""Models that are instant and know the drawn still lifes of ``scripts/drawn``."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from retrieval_grounding.core.regions import Regions
from retrieval_grounding.models.encoder import Fingerprint

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from drawn.refer import draw_refer
from drawn.things import CATEGORIES, COLORS, draw_thing

__all__ = ["DrawnDetector", "DrawnEncoder", "draw_refer"]

_SIDE = 10


class DrawnDetector:
    """Finds what was drawn, a little off, and a few boxes with nothing in them."""

    fingerprint = "drawn still lifes 1"

    def __init__(self, folder: Path, name: str = "refcocog") -> None:
        instances = json.loads((folder / name / "instances.json").read_text(encoding="utf-8"))
        names = {row["id"]: row["name"] for row in instances["categories"]}
        found = defaultdict(list)
        for row in instances["annotations"]:
            x, y, width, height = row["bbox"]
            box = (x, y, x + width, y + height)
            found[row["image_id"]].append((box, names[row["category_id"]]))
        self._regions = {}
        for image in instances["images"]:
            with Image.open(folder / "train2014" / image["file_name"]) as picture:
                key = _content(picture.convert("RGB"))
            size = (image["width"], image["height"])
            self._regions[key] = _detections(found[image["id"]], size, Random(image["id"]))

    def detect(self, images: Sequence[Image.Image]) -> list[Regions]:
        return [self._regions[_content(image)] for image in images]


class DrawnEncoder:
    """Embeds a region by its shrunken pixels, and a phrase by how its words look, as a bag."""

    fingerprint = Fingerprint("drawn still lifes", "weights-1", "none")
    dimension = 128

    def __init__(self) -> None:
        shape = (3 * _SIDE**2, self.dimension)
        self._projection = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        looks = {(name, color): _tile(name, color) for name in CATEGORIES for color in COLORS}
        self._mean = np.mean(list(looks.values()), axis=0)
        self._words = {
            word: np.mean([look for key, look in looks.items() if word in key], axis=0) - self._mean
            for word in (*CATEGORIES, *COLORS)
        }

    def encode_regions(
        self, images: Sequence[Image.Image], regions: Sequence[Regions]
    ) -> np.ndarray:
        pixels = [
            np.asarray(
                image.resize((_SIDE, _SIDE), Image.Resampling.BOX, tuple(box)), np.float32
            ).ravel()
            for image, found in zip(images, regions, strict=True)
            for box in found.boxes.tolist()
        ]
        return self._project(np.array(pixels, np.float32) - self._mean)

    def encode_phrases(self, phrases: Sequence[str]) -> np.ndarray:
        nothing = np.full(len(self._mean), 0.1)
        rows = [
            sum((self._words[w] for w in phrase.split() if w in self._words), start=nothing)
            for phrase in phrases
        ]
        return self._project(np.array(rows, np.float32))

    def _project(self, pixels: np.ndarray) -> np.ndarray:
        rows = pixels @ self._projection
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _content(image: Image.Image) -> str:
    return hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()


def _tile(name: str, color: str) -> np.ndarray:
    """Return the shrunken pixels of one thing on wood."""
    image = Image.new("RGB", (84, 84), (170, 140, 110))
    box = draw_thing(image, name, color, (42, 42), 38)
    return np.asarray(image.crop(box).resize((_SIDE, _SIDE)), np.float32).ravel()


def _detections(
    things: Sequence[tuple[tuple[float, ...], str]], size: tuple[int, int], rng: Random
) -> Regions:
    rows = []
    for box, name in things:
        moved = [edge + rng.uniform(-2, 2) for edge in box]
        rows.append((moved, rng.uniform(0.5, 0.95), name if rng.random() < 0.6 else "object"))
    for _ in range(3):
        x, y = rng.uniform(0, size[0] - 50), rng.uniform(0, size[1] - 50)
        rows.append(([x, y, x + rng.uniform(20, 50), y + rng.uniform(20, 50)], 0.2, "object"))
    limits = (size[0], size[1], size[0], size[1])
    boxes = np.clip([row[0] for row in rows], 0, limits)
    found = Regions(boxes, [row[1] for row in rows], [row[2] for row in rows])
    return Regions.concatenate([Regions.whole_image(*size), found])
