"""Things to draw: outlines, shading and details, in a square from -1 to 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["CATEGORIES", "COLORS", "draw_thing"]

Points = Sequence[tuple[float, float]]

COLORS = {
    "red": (205, 30, 35),
    "orange": (240, 130, 20),
    "yellow": (240, 210, 40),
    "green": (45, 150, 60),
    "blue": (40, 80, 205),
    "purple": (125, 50, 170),
    "pink": (245, 130, 185),
    "white": (240, 240, 238),
    "black": (32, 32, 34),
}


def _ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    angles = [step * math.pi / 24 for step in range(48)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def _mirrored(*right: tuple[float, float]) -> Points:
    """Return an outline from its right half, from top to bottom."""
    return [*right, *((-x, y) for x, y in reversed(right))]


_BOTTLE = _mirrored((0.16, -1), (0.16, -0.55), (0.4, -0.25), (0.42, 0.9), (0.36, 1))
_VASE = _mirrored(
    (0.38, -1), (0.24, -0.75), (0.3, -0.5), (0.62, 0), (0.66, 0.35), (0.5, 0.75), (0.34, 1)
)
_CUP = _mirrored((0.62, -0.8), (0.6, 0.2), (0.52, 0.7), (0.44, 0.8))
_BOOK = [(-0.7, -0.95), (0.7, -0.95), (0.7, 0.95), (-0.7, 0.95)]
_BOWL = [
    (1, -0.3),
    *[(math.cos(a * math.pi / 24), -0.3 + 0.9 * math.sin(a * math.pi / 24)) for a in range(25)],
]
_APPLE = [
    (0.8 * math.cos(a) * (1 + 0.12 * abs(math.sin(a))), 0.12 + 0.82 * math.sin(a))
    for a in (step * math.pi / 24 for step in range(48))
]

_OUTLINES: dict[str, Sequence[Points]] = {
    "cup": [_CUP, _ellipse(0, -0.8, 0.62, 0.14)],
    "plate": [_ellipse(0, 0, 1, 0.42)],
    "bottle": [_BOTTLE],
    "ball": [_ellipse(0, 0, 0.95, 0.95)],
    "book": [_BOOK],
    "vase": [_VASE],
    "bowl": [_BOWL, _ellipse(0, -0.3, 1, 0.2)],
    "apple": [_APPLE],
}
CATEGORIES = tuple(_OUTLINES)
"""Names of COCO, or of LVIS, that people know."""

_Pen = Callable[[Points, tuple[int, int, int] | None, int], None]


def draw_thing(
    canvas: Image.Image, name: str, color: str, center: tuple[float, float], radius: float
) -> tuple[int, int, int, int]:
    """Draw a thing and return its box on the canvas: the corners of what it covers."""
    side = int(2 * radius) + 4
    middle = side / 2

    def place(points: Points) -> list[tuple[float, float]]:
        return [(middle + x * radius, middle + y * radius) for x, y in points]

    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    for outline in _OUTLINES[name]:
        pen.polygon(place(outline), fill=255)
    if name == "cup":  # the handle
        pen.arc([*place([(0.35, -0.45)])[0], *place([(0.98, 0.35)])[0]], -100, 100, 255, side // 14)
    if name == "apple":  # the stem
        pen.line(place([(0, -0.6), (0.1, -1)]), fill=255, width=max(2, side // 18))
    picture = _shaded(name, np.array(COLORS[color], float), side)
    details = ImageDraw.Draw(picture)

    def paint(points: Points, fill: tuple[int, int, int] | None, width: int = 0) -> None:
        if fill is not None and not width:
            details.polygon(place(points), fill=fill)
        else:
            details.line([*place(points), place(points)[0]], fill=fill, width=width)

    _add_details(name, COLORS[color], side, paint)
    corner = (round(center[0] - middle), round(center[1] - middle))
    canvas.paste(picture, corner, mask)
    left, top, right, bottom = mask.getbbox() or (0, 0, side, side)
    return left + corner[0], top + corner[1], right + corner[0], bottom + corner[1]


def _shaded(name: str, color: np.ndarray, side: int) -> Image.Image:
    """Return a square of the color, lit from the left; round things are darker at their edges."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    if name in ("ball", "apple"):
        light = 1.25 - 0.55 * np.hypot(x + 0.35, y + 0.4)
    elif name in ("plate", "book"):
        light = 1.05 - 0.1 * x - 0.08 * y
    else:
        light = 1.2 - 0.5 * np.abs(x + 0.25)
    pixels = color * light[..., None]
    gloss = np.exp(-(((x + 0.3) ** 2 + (y + 0.35) ** 2) / 0.02))[..., None]
    if name not in ("plate", "book"):
        pixels = pixels + 90 * gloss
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _add_details(name: str, color: tuple[int, int, int], side: int, paint: _Pen) -> None:
    dark = tuple(int(value * 0.55) for value in color)
    light = tuple(min(255, int(value * 0.6 + 100)) for value in color)
    thin = max(1, side // 50)
    if name == "cup":
        paint(_ellipse(0, -0.8, 0.56, 0.1), dark, 0)
    elif name == "plate":
        paint(_ellipse(0, 0.02, 0.62, 0.24), light, 0)
        paint(_ellipse(0, 0.02, 0.62, 0.24), dark, thin)
    elif name == "bottle":
        paint([(-0.42, 0.05), (0.42, 0.05), (0.42, 0.6), (-0.42, 0.6)], light, 0)
        paint([(-0.18, -1), (0.18, -1), (0.18, -0.85), (-0.18, -0.85)], dark, 0)
    elif name == "ball":
        paint(_ellipse(-1.1, 0, 0.7, 1.1), dark, 2 * thin)
        paint(_ellipse(1.1, 0, 0.7, 1.1), dark, 2 * thin)
    elif name == "book":
        paint([(-0.7, -0.95), (-0.58, -0.95), (-0.58, 0.95), (-0.7, 0.95)], dark, 0)
        paint([(-0.35, -0.65), (0.5, -0.65), (0.5, -0.35), (-0.35, -0.35)], light, 0)
    elif name == "vase":
        paint(_ellipse(0, 0.2, 0.66, 0.06), dark, 2 * thin)
    elif name == "bowl":
        paint(_ellipse(0, -0.3, 0.9, 0.14), dark, 0)
    elif name == "apple":
        paint([(0.08, -0.8), (0.5, -1), (0.4, -0.7)], (60, 130, 50), 0)
