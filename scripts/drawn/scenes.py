"""Still lifes: things on a table, several of one category, that do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image

from .things import CATEGORIES, COLORS, draw_thing

__all__ = ["SIZE", "Scene", "Thing", "draw_scene"]

SIZE = (320, 240)
_ZOOM = 2  # drawn larger and shrunk, for smooth edges
_SMALL, _LARGE = (19, 23), (31, 37)  # half of a side in pixels; areas differ by more than 2
_GAP = 4


@dataclass(frozen=True)
class Thing:
    """One thing in a scene, with its corners in pixels."""

    category: str
    color: str
    large: bool
    box: tuple[float, float, float, float]

    @property
    def x(self) -> float:
        """Horizontal center."""
        return (self.box[0] + self.box[2]) / 2

    @property
    def y(self) -> float:
        """Vertical center."""
        return (self.box[1] + self.box[3]) / 2

    @property
    def area(self) -> float:
        """Area of the box."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    def distance(self, other: Thing) -> float:
        """Return the gap between two boxes in pixels."""
        x = max(self.box[0] - other.box[2], other.box[0] - self.box[2], 0)
        y = max(self.box[1] - other.box[3], other.box[1] - self.box[3], 0)
        return float(np.hypot(x, y))


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it."""

    image: Image.Image
    things: Sequence[Thing]


def draw_scene(seed: str) -> Scene:
    """Draw a scene with 2 to 4 things of one category and 2 to 4 others; it depends on the seed."""
    rng = Random(seed)
    frequent = rng.choice(CATEGORIES)
    others = [name for name in CATEGORIES if name != frequent]
    names = [frequent] * rng.randint(2, 4) + rng.choices(others, k=rng.randint(2, 4))
    favorite = rng.choice(list(COLORS))
    canvas = _table(rng)
    things: list[Thing] = []
    taken: list[tuple[float, float, float, float]] = []
    for name in names:
        large = rng.random() < 0.45
        radius = rng.uniform(*(_LARGE if large else _SMALL))
        for _ in range(60):
            x = rng.uniform(radius + 3, SIZE[0] - radius - 3)
            y = rng.uniform(radius + 3, SIZE[1] - radius - 3)
            square = (x - radius, y - radius, x + radius, y + radius)
            if all(_apart(square, other) for other in taken):
                break
        else:
            continue  # the table is full
        taken.append(square)
        color = favorite if rng.random() < 0.35 else rng.choice(list(COLORS))
        center = (x * _ZOOM, y * _ZOOM)
        box = draw_thing(canvas, name, color, center, radius * _ZOOM)
        left, top, right, bottom = (value / _ZOOM for value in box)
        things.append(Thing(name, color, large, (left, top, right, bottom)))
    return Scene(canvas.resize(SIZE, Image.Resampling.BOX), things)


def _table(rng: Random) -> Image.Image:
    """Return a wall and a wooden table, in muted colors that no thing has."""
    noise = np.random.default_rng(rng.randrange(1 << 30))
    width, height = SIZE[0] * _ZOOM, SIZE[1] * _ZOOM
    wall = np.array([rng.uniform(165, 205)] * 3) + noise.uniform(-8, 8, 3)
    wood = np.array([170, 140, 110]) * rng.uniform(0.8, 1.15)
    edge = int(height * rng.uniform(0.2, 0.45))
    pixels = np.empty((height, width, 3))
    pixels[:edge], pixels[edge:] = wall, wood
    grain = np.cumsum(noise.normal(0, 1.2, height)) % 12 - 6
    pixels[edge:] += grain[edge:, None, None]
    pixels += np.linspace(8, -8, width)[:, None] + noise.normal(0, 4, (height, width, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _apart(a: Sequence[float], b: Sequence[float]) -> bool:
    return max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3]) > _GAP
