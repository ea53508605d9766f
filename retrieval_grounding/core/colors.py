"""Colors of regions: the share of a region that each of eleven basic colors covers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["COLORS", "color_shares", "region_colors"]


COLORS = (
    "black", "white", "gray", "brown", "red", "orange", "yellow", "green", "blue", "purple", "pink",
)  # fmt: skip
"""The eleven basic color terms of English (Berlin and Kay, 1969)."""

_HUE_LIMITS = np.array([15, 40, 65, 165, 255, 290, 340])  # degrees
_HUE_NAMES = np.array(
    [COLORS.index(name) for name in "red orange yellow green blue purple pink red".split()]
)
_SIDE = 24
_FULL = 255


def region_colors(image: Image.Image, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Measure the colors in the middle of regions.

    Parameters
    ----------
    image : PIL image
        Upright RGB image.
    boxes : array of shape (n, 4)
        Corners in pixels, inside the image.

    Returns
    -------
    uint8 array of shape (n, 11)
        Share of each color of `COLORS`; 255 means all of the region.

    Examples
    --------
    >>> red = Image.new("RGB", (50, 50), (220, 20, 20))
    >>> region_colors(red, np.array([[0, 0, 50, 50]], np.float32))[0, COLORS.index("red")]
    np.uint8(255)
    """
    centers, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    halves = sides * np.array(
        [0.25, 0.3], np.float32
    )  # a foreground object fills the middle of its box
    middles = np.concatenate([centers - halves, centers + halves], axis=1)
    pixels = [
        np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.NEAREST, tuple(box)))
        for box in middles.tolist()
    ]
    if not pixels:
        return np.zeros((0, len(COLORS)), np.uint8)
    return np.round(color_shares(np.stack(pixels)) * _FULL).astype(np.uint8)


def color_shares(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the share of each picture that each color of `COLORS` covers.

    Parameters
    ----------
    pixels : uint8 array of shape (n, h, w, 3)
        RGB pictures.

    Returns
    -------
    float32 array of shape (n, 11)
        Rows add up to 1.
    """
    count = len(pixels)
    # Planes, since the extremes of three values in a row are slow.
    red, green, blue = np.moveaxis(pixels, -1, 0).reshape(3, count, -1).astype(np.float32) / 255
    top = np.maximum(np.maximum(red, green), blue)
    chroma = top - np.minimum(np.minimum(red, green), blue)
    saturation = chroma / np.maximum(top, 1e-6)
    safe = np.where(chroma > 0, chroma, 1)
    sector = np.where(
        top == red,
        ((green - blue) / safe) % 6,
        np.where(top == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = sector * 60
    names = _HUE_NAMES[np.searchsorted(_HUE_LIMITS, hue, side="right")]
    earthy = (hue > 10) & (hue < 45) & (top < 0.65) & (saturation > 0.25)
    names[earthy] = COLORS.index("brown")
    pale = saturation < 0.18
    names[pale & (top > 0.75)] = COLORS.index("white")
    names[pale & (top <= 0.75)] = COLORS.index("gray")
    names[top < 0.22] = COLORS.index("black")
    names += len(COLORS) * np.arange(count)[:, None]
    counts = np.bincount(names.ravel(), minlength=len(COLORS) * count)
    shares: npt.NDArray[np.float64] = counts.reshape(count, len(COLORS)) / max(1, red.shape[1])
    return shares.astype(np.float32)
