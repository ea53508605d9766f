"""Models that are instant and exact, and the pictures that they understand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval_grounding.core.phrases import clean_phrase
from retrieval_grounding.core.regions import Regions
from retrieval_grounding.data import prefetch
from retrieval_grounding.data.images import DecodedImage, decode_with_notes
from retrieval_grounding.models.encoder import Fingerprint
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.vectors.load import vectors_path

COLORS = {
    "red": (220, 20, 20),
    "green": (20, 200, 20),
    "blue": (20, 20, 220),
    "yellow": (220, 220, 20),
}
BACKGROUND = (128, 128, 128)


class SquareDetector:
    """Finds the colored rectangles that `draw_squares` draws; its labels are the colors."""

    fingerprint = "squares 1"

    def detect(self, images: Sequence[Image.Image]) -> list[Regions]:
        found = []
        for image in images:
            pixels = np.asarray(image).astype(int)
            boxes, labels = [], []
            for name, color in COLORS.items():
                rows, columns = np.nonzero(np.abs(pixels - color).sum(-1) < 60)
                if len(rows):
                    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                    boxes.append(box)
                    labels.append(name)
            whole = Regions.whole_image(*image.size)
            scores = np.full(len(boxes), 0.9)
            found.append(Regions.concatenate([whole, Regions(boxes, scores, labels)]))
        return found


class ColorEncoder:
    """Embeds a region by its mean color and a phrase by the color words in it."""

    fingerprint = Fingerprint("colours", "weights-1", "none")
    dimension = 4

    def encode_regions(
        self, images: Sequence[Image.Image], regions: Sequence[Regions]
    ) -> np.ndarray:
        rows = []
        for image, found in zip(images, regions, strict=True):
            for box in found.boxes:
                mean = np.asarray(image.crop(tuple(box.astype(int)))).reshape(-1, 3).mean(0)
                rows.append(_color_vector(mean))
        return np.array(rows, np.float32)

    def encode_phrases(self, phrases: Sequence[str]) -> np.ndarray:
        colors = [
            next((rgb for name, rgb in COLORS.items() if name in clean_phrase(phrase)), BACKGROUND)
            for phrase in phrases
        ]
        return np.array([_color_vector(rgb) for rgb in colors], np.float32)


def vectors_file(folder: Path) -> Path:
    """Return the file of an index's vectors, which may be missing."""
    with contextlib.closing(Catalog(folder)) as catalog:
        return vectors_path(catalog)


def _color_vector(color: Sequence[float]) -> np.ndarray:
    vector = np.array([*(np.asarray(color, float) - 128), 20.0])
    return vector / np.linalg.norm(vector)


def draw_squares(
    path: Path, squares: dict[str, tuple[int, int, int, int]], size: tuple[int, int] = (80, 60)
) -> Path:
    """Write a gray PNG with one filled rectangle for each color name."""
    image = Image.new("RGB", size, BACKGROUND)
    for name, box in squares.items():
        image.paste(COLORS[name], box)
    image.save(path)
    return path


class NearDecoder:
    """Decodes in this process what builds decode in processes of their own."""

    def decode_with_notes(
        self, data: bytes, take: Callable[[int, int], None] | None = None
    ) -> DecodedImage:
        def allow(memory: int, pixels: int) -> None:
            if take is not None:
                take(memory + 3 * pixels, 3 * pixels)

        return decode_with_notes(data, allow)

    def stop(self) -> None:
        """There is no process to stop."""

    def close(self) -> None:
        """There is no process to end."""


def decode_here() -> None:
    """Let builds start no processes: for scripts that build hundreds of times to try an index."""
    prefetch.Decoder = NearDecoder
