"""Drawn scenes whose phrases describe one shape each, and a detector that knows their boxes.

``python tests/scenes.py FOLDER`` writes pictures and ``refs.jsonl`` for inspection.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from retrieval_grounding.core.regions import Regions, pairwise_iou
from retrieval_grounding.models.encoder import Fingerprint

SIDE = 224
COLORS = {
    "red": (215, 25, 30), "orange": (250, 140, 10), "yellow": (245, 225, 30),
    "green": (30, 160, 50), "blue": (30, 70, 220), "purple": (140, 40, 190),
    "pink": (255, 120, 190), "black": (15, 15, 15),
}  # fmt: skip
_STAR = [
    ((1 if point % 2 == 0 else 0.48) * math.sin(point * math.pi / 5),
     -(1 if point % 2 == 0 else 0.48) * math.cos(point * math.pi / 5))
    for point in range(10)
]  # fmt: skip
_CROSS = [(-0.4, -1), (0.4, -1), (0.4, -0.4), (1, -0.4), (1, 0.4), (0.4, 0.4),
          (0.4, 1), (-0.4, 1), (-0.4, 0.4), (-1, 0.4), (-1, -0.4), (-0.4, -0.4)]  # fmt: skip
SHAPES = {
    "circle": [(math.cos(a * math.pi / 24), math.sin(a * math.pi / 24)) for a in range(48)],
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0, -1), (1, 0.9), (-1, 0.9)],
    "star": _STAR,
    "cross": _CROSS,
}
"""Outlines in the square from -1 to 1."""

_SMALL, _LARGE = (13, 17), (27, 33)  # radii in pixels; areas differ by more than 2.5
_MARGIN = 18.0  # minimum distance of centers, in pixels, for phrases about order
_PER_SCENE = 6

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shape:
    """One thing in a scene."""

    shape: str
    color: str
    large: bool
    box: Box

    @property
    def x(self) -> float:
        return (self.box[0] + self.box[2]) / 2

    @property
    def y(self) -> float:
        return (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class Expression:
    """A phrase, the box of its target, and what singles the target out."""

    phrase: str
    box: Box
    kind: str


@dataclass(frozen=True)
class Scene:
    """A picture, its shapes, the detections in it, and expressions about it."""

    image: Image.Image
    shapes: Sequence[Shape]
    regions: Regions
    expressions: Sequence[Expression]


class SceneDetector:
    """Finds in a scene's picture the boxes that the scene was made with."""

    fingerprint = "drawn scenes 1"

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self._regions = {_content(scene.image): scene.regions for scene in scenes}

    def detect(self, images: Sequence[Image.Image]) -> list[Regions]:
        return [self._regions[_content(image)] for image in images]


class SceneEncoder:
    """Embeds a region by its shrunken pixels, and a phrase by what its colors and shapes look like.

    As with CLIP, a phrase is a bag of words: places and relations have no meaning.
    """

    fingerprint = Fingerprint("drawn scenes", "weights-1", "none")
    dimension = 128
    _side = 10

    def __init__(self) -> None:
        shape = (3 * self._side**2, self.dimension)
        self._projection = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        looks = {
            (shape, color): np.asarray(
                _tile(SHAPES[shape], COLORS[color]).resize((self._side,) * 2), np.float32
            ).ravel()
            for shape in SHAPES
            for color in COLORS
        }
        self._mean = np.mean(list(looks.values()), axis=0)
        self._words = {
            word: np.mean([look for key, look in looks.items() if word in key], axis=0) - self._mean
            for word in (*SHAPES, *COLORS)
        }

    def encode_regions(
        self, images: Sequence[Image.Image], regions: Sequence[Regions]
    ) -> np.ndarray:
        size = (self._side, self._side)
        pixels = [
            np.asarray(image.resize(size, Image.Resampling.BOX, tuple(box)), np.float32).ravel()
            for image, found in zip(images, regions, strict=True)
            for box in found.boxes.tolist()
        ]
        return self._project(np.array(pixels, np.float32) - self._mean)

    def encode_phrases(self, phrases: Sequence[str]) -> np.ndarray:
        nothing = np.full(len(self._mean), 0.1)  # no word has a meaning
        rows = [
            sum((self._words[w] for w in phrase.split() if w in self._words), start=nothing)
            for phrase in phrases
        ]
        return self._project(np.array(rows, np.float32))

    def _project(self, pixels: np.ndarray) -> np.ndarray:
        rows = pixels @ self._projection
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_scenes(count: int, seed: int) -> list[Scene]:
    """Draw scenes; different seeds give different scenes, so splits are made by seed."""
    return [_make_scene(Random(f"{seed} {number}")) for number in range(count)]


def write_scenes(scenes: Sequence[Scene], folder: Path, split: str) -> list[dict[str, object]]:
    """Write ``SPLIT_0000.png`` and so on; return their expressions as lines of a JSONL file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, object]] = []
    for number, scene in enumerate(scenes):
        name = f"{split}_{number:04d}.png"
        scene.image.save(folder / name, compress_level=1)
        for expression in scene.expressions:
            left, top, right, bottom = expression.box
            lines.append(
                {
                    "dataset": "drawn_scenes",
                    "split": split,
                    "ref_id": f"{split}_{len(lines)}",
                    "image": name,
                    "coco_image_id": None,
                    "expression": expression.phrase,
                    "bbox_xywh": [left, top, right - left, bottom - top],
                    "category": None,
                    "width": SIDE,
                    "height": SIDE,
                }
            )
    return lines


def write_jsonl(lines: Sequence[dict[str, object]], path: Path) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def _make_scene(rng: Random) -> Scene:
    shapes = _arrange(rng)
    by_kind: dict[str, list[Expression]] = defaultdict(list)
    for expression in _all_expressions(shapes):
        by_kind[expression.kind].append(expression)
    chosen = []
    while by_kind and len(chosen) < _PER_SCENE:
        kind = rng.choice(sorted(by_kind))
        chosen.append(by_kind[kind].pop(rng.randrange(len(by_kind[kind]))))
        if not by_kind[kind]:
            del by_kind[kind]
    return Scene(_draw(shapes, rng), shapes, _detections(shapes, rng), chosen)


def _arrange(rng: Random) -> list[Shape]:
    """Place 3 to 8 shapes that do not overlap, often several of the same kind."""
    frequent, color = rng.choice(list(SHAPES)), rng.choice(list(COLORS))
    shapes: list[Shape] = []
    count = rng.randint(3, 8)
    for _ in range(200):
        if len(shapes) == count:
            break
        large = rng.random() < 0.4
        radius = rng.uniform(*(_LARGE if large else _SMALL))
        x, y = (rng.uniform(radius + 2, SIDE - radius - 2) for _ in range(2))
        name = frequent if rng.random() < 0.5 else rng.choice(list(SHAPES))
        paint = color if rng.random() < 0.3 else rng.choice(list(COLORS))
        outline = np.array(SHAPES[name]) * radius + (x, y)
        box = (*outline.min(0).round(1).tolist(), *outline.max(0).round(1).tolist())
        if all(_apart(box, other.box) for other in shapes):
            shapes.append(Shape(name, paint, large, box))
    return shapes


def _apart(a: Box, b: Box) -> bool:
    return max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3]) > 5


def _draw(shapes: Sequence[Shape], rng: Random) -> Image.Image:
    """Draw at twice the size and shrink, on a background of coarse and fine gray noise."""
    noise = np.random.default_rng(rng.randrange(1 << 30))
    coarse = Image.fromarray(noise.integers(175, 235, (7, 7), dtype=np.uint8))
    gray = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
    gray = (gray + noise.integers(-8, 9, gray.shape)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(gray).convert("RGB").resize((2 * SIDE, 2 * SIDE))
    pen = ImageDraw.Draw(image)
    for shape in shapes:
        outline = np.array(SHAPES[shape.shape])
        low, high = outline.min(0), outline.max(0)
        corner, size = np.array(shape.box[:2]), np.subtract(shape.box[2:], shape.box[:2])
        points = (outline - low) / (high - low) * size + corner
        shade = tuple(
            max(0, min(255, value + rng.randint(-10, 10))) for value in COLORS[shape.color]
        )
        pen.polygon([(2 * x, 2 * y) for x, y in points.tolist()], fill=shade)
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def _detections(shapes: Sequence[Shape], rng: Random) -> Regions:
    """Return each shape's box, slightly off, and boxes that match no shape."""
    truths = [shape.box for shape in shapes]
    found: list[tuple[Box, float, str]] = []
    for shape in shapes:
        label = shape.shape if rng.random() < 0.5 else "object"
        found.append((_moved(shape.box, rng, 0.03), rng.uniform(0.5, 0.95), label))
        if rng.random() < 0.5:
            found.append((_missed(shape.box, truths, rng), rng.uniform(0.1, 0.6), label))
    for _ in range(rng.randint(1, 3)):
        box = _background(truths, rng)
        found.append((box, rng.uniform(0.1, 0.6), rng.choice([*SHAPES, "object"])))
    found.sort(key=lambda row: -row[1])
    boxes, scores, labels = zip(*found, strict=True)
    whole = Regions.whole_image(SIDE, SIDE)
    return Regions.concatenate([whole, Regions(boxes, scores, labels)])


def _tile(outline: Sequence[tuple[float, float]], color: tuple[int, int, int]) -> Image.Image:
    """Draw a shape that fills its picture."""
    points = np.array(outline)
    low, high = points.min(0), points.max(0)
    image = Image.new("RGB", (80, 80), (205, 205, 205))
    corners = ((points - low) / (high - low) * 80).tolist()
    ImageDraw.Draw(image).polygon([(x, y) for x, y in corners], fill=color)
    return image


def _moved(box: Box, rng: Random, amount: float) -> Box:
    width, height = box[2] - box[0], box[3] - box[1]
    steps = [rng.uniform(-amount, amount) for _ in box]
    lengths = (width, height, width, height)
    moved = [
        min(float(SIDE), max(0.0, edge + step * length))
        for edge, step, length in zip(box, steps, lengths, strict=True)
    ]
    return (moved[0], moved[1], moved[2], moved[3])


def _missed(box: Box, truths: Sequence[Box], rng: Random) -> Box:
    """Return a box that overlaps a shape, but too little to be correct."""
    while True:
        moved = _moved(box, rng, 0.7)
        if moved[2] - moved[0] > 8 and moved[3] - moved[1] > 8:
            best = float(pairwise_iou([moved], truths).max())
            if float(pairwise_iou([moved], [box])[0, 0]) >= 0.2 and best < 0.45:
                return moved


def _background(truths: Sequence[Box], rng: Random) -> Box:
    while True:
        width, height = rng.uniform(24, 90), rng.uniform(24, 90)
        x, y = rng.uniform(0, SIDE - width), rng.uniform(0, SIDE - height)
        box = (x, y, x + width, y + height)
        if float(pairwise_iou([box], truths).max()) < 0.2:
            return box


# Expressions -------------------------------------------------------------------------------------


def _all_expressions(shapes: Sequence[Shape]) -> Iterator[Expression]:
    for target in shapes:
        same_shape = [other for other in shapes if other.shape == target.shape]
        same_color = [other for other in shapes if other.color == target.color]
        same = [other for other in same_shape if other.color == target.color]
        size = "large" if target.large else "small"
        if len(same_color) == 1:
            yield Expression(f"the {target.color} one", target.box, "color")
        if len(same_shape) == 1:
            yield Expression(f"the {target.shape}", target.box, "shape")
        elif len(same) == 1:
            yield Expression(f"the {target.color} {target.shape}", target.box, "color shape")
        elif sum(other.large == target.large for other in same) == 1:
            phrase = f"the {size} {target.color} {target.shape}"
            yield Expression(phrase, target.box, "size")
        if len(same_shape) > 1 and sum(other.large == target.large for other in same_shape) == 1:
            word = "largest" if target.large else "smallest"
            yield Expression(f"the {word} {target.shape}", target.box, "size")
        yield from _order(target, same_shape)
        yield from _relations(target, same_shape, shapes)


def _order(target: Shape, rivals: Sequence[Shape]) -> Iterator[Expression]:
    for axis, words in (("x", ("leftmost", "rightmost")), ("y", ("topmost", "bottommost"))):
        row = sorted(rivals, key=lambda shape: getattr(shape, axis))
        places = [getattr(shape, axis) for shape in row]
        gaps = [b - a for a, b in pairwise(places)]
        if len(row) > 1 and target is row[0] and gaps[0] > _MARGIN:
            yield Expression(f"the {words[0]} {target.shape}", target.box, "position")
        if len(row) > 1 and target is row[-1] and gaps[-1] > _MARGIN:
            yield Expression(f"the {words[1]} {target.shape}", target.box, "position")
        if axis == "x" and len(row) > 2:
            if target is row[1] and min(gaps[:2]) > _MARGIN:
                phrase = f"second {target.shape} from the left"
                yield Expression(phrase, target.box, "ordinal")
            if target is row[-2] and min(gaps[-2:]) > _MARGIN:
                phrase = f"second {target.shape} from the right"
                yield Expression(phrase, target.box, "ordinal")


_RELATIONS = {
    "to the left of": ("x", -1), "to the right of": ("x", 1), "above": ("y", -1), "below": ("y", 1),
}  # fmt: skip


def _relations(
    target: Shape, rivals: Sequence[Shape], shapes: Sequence[Shape]
) -> Iterator[Expression]:
    """Yield relations that distinguish the target from the others of its shape."""
    if len(rivals) < 2:
        return
    for other in shapes:
        alike = [s for s in shapes if (s.shape, s.color) == (other.shape, other.color)]
        if other.shape == target.shape or len(alike) > 1:
            continue
        for words, (axis, sign) in _RELATIONS.items():
            ahead = {
                id(shape): sign * (getattr(shape, axis) - getattr(other, axis)) for shape in rivals
            }
            chosen = ahead.pop(id(target))
            if chosen > _MARGIN / 2 and max(ahead.values()) < -_MARGIN / 2:
                phrase = f"the {target.shape} {words} the {other.color} {other.shape}"
                yield Expression(phrase, target.box, "relation")


def _content(image: Image.Image) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_jsonl(write_scenes(make_scenes(20, 0), folder, "scenes"), folder / "refs.jsonl")
