"""Measure which altered copies and which different photographs ``--unique`` takes as the same.

    python scripts/measure_unique.py INDEX --photos 60

The photographs of the index are altered: encoded again, made smaller, brighter, cropped, and so on.
Each is compared with its original. All pairs of different photographs of the index are the
counter-examples; the nearest are listed, because a collection may hold real duplicates.
"""

from __future__ import annotations

import argparse
import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from rich.console import Console
from rich.table import Table

import retrieval_grounding as rg
from retrieval_grounding.data.photo import perceptual_hash
from retrieval_grounding.search.grouping import is_near
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.region_store import RegionStore

Change = Callable[[Image.Image], Image.Image]


def encoded(quality: int) -> Change:
    """Return a change that encodes an image as JPEG."""

    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return change


def scaled(factor: float) -> Change:
    """Return a change of size."""
    return lambda image: image.resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    )


def cropped(left: float, top: float, right: float, bottom: float) -> Change:
    """Return a change that cuts off shares of the sides."""

    def change(image: Image.Image) -> Image.Image:
        width, height = image.size
        box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
        return image.crop(tuple(round(side) for side in box))

    return change


def watermarked(image: Image.Image) -> Image.Image:
    """Return an image with a line of text and a white band."""
    marked = image.copy()
    draw = ImageDraw.Draw(marked)
    draw.rectangle((0, image.height * 0.92, image.width, image.height), fill="white")
    draw.text((image.width * 0.1, image.height * 0.93), "© somebody", fill="black")
    return marked


def framed(image: Image.Image) -> Image.Image:
    """Return an image with a black frame, a twentieth of its width."""
    side = image.width // 20
    canvas = Image.new("RGB", (image.width + 2 * side, image.height + 2 * side))
    canvas.paste(image, (side, side))
    return canvas


def next_of_burst(image: Image.Image) -> Image.Image:
    """Return an image as a moving hand takes it a moment later: shifted, turned, other light."""
    turned = image.rotate(1.5, Image.Resampling.BICUBIC)
    return ImageEnhance.Brightness(cropped(0.08, 0.05, 0.02, 0.04)(turned)).enhance(1.08)


CHANGES: dict[str, Change] = {
    "JPEG, quality 90": encoded(90),
    "JPEG, quality 30": encoded(30),
    "half the size": scaled(0.5),
    "a fifth of the size": scaled(0.2),
    "brighter by 30%": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darker by 30%": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "contrast +30%": lambda image: ImageEnhance.Contrast(image).enhance(1.3),
    "gray": lambda image: image.convert("L").convert("RGB"),
    "blurred, 2 pixels": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "a line of text below": watermarked,
    "a black frame": framed,
    "2% cut off on each side": cropped(0.02, 0.02, 0.02, 0.02),
    "5% cut off on each side": cropped(0.05, 0.05, 0.05, 0.05),
    "10% cut off on each side": cropped(0.1, 0.1, 0.1, 0.1),
    "20% cut off on one side": cropped(0.2, 0, 0, 0),
    "turned by 2°": lambda image: image.rotate(2, Image.Resampling.BICUBIC),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "next of a burst": next_of_burst,
}


def bits_of(image: Image.Image) -> int:
    """Return the perceptual hash as a number."""
    return int(perceptual_hash(image), 16)


def different(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the number of bits that differ between hashes, elementwise."""
    return np.bitwise_count(first ^ second).astype(np.int64)


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path, help="built with nano")
    parser.add_argument("--photos", type=int, default=60, help="photographs to alter")
    parser.add_argument("--negatives", type=int, default=10_000, help="photographs to compare")
    options = parser.parse_args()
    catalog, encoder = Catalog(options.index), rg.load_encoder("nano")
    store = RegionStore(catalog)
    images = sorted(catalog.images(), key=lambda image: image.path)
    order = np.random.default_rng(0).permutation(len(images))[: options.negatives]
    chosen = [images[number] for number in order]
    regions = store.gather([(image.shard, image.row) for image in chosen])
    wholes = regions.embeddings[regions.offsets[:-1]].astype(np.float32)
    pictures = (rg.load_image(image.path, image.content_hash) for image in chosen)
    altered = list(itertools.islice(pictures, options.photos))
    hashes = np.array([*map(bits_of, altered), *map(bits_of, pictures)], np.uint64)

    table = Table("altered", "bits, median", "bits, 95%", "cosine, median", "cosine, 5%", "near")
    for name, change in CHANGES.items():
        copies = [change(image) for image in altered]
        whole = [rg.Regions.whole_image(*image.size) for image in copies]
        found = encoder.encode_regions(copies, whole)
        cosines = (found * wholes[: len(copies)]).sum(axis=1)
        own = np.array([*map(bits_of, copies)], np.uint64)
        bits = different(own, hashes[: len(copies)])
        near = float(np.mean([*map(is_near, own.tolist(), hashes.tolist(), cosines.tolist())]))
        table.add_row(
            name, f"{np.median(bits):.0f}", f"{np.percentile(bits, 95):.0f}",
            f"{np.median(cosines):.3f}", f"{np.percentile(cosines, 5):.3f}", f"{near:.0%}",
        )  # fmt: skip
    first, second = np.triu_indices(len(chosen), 1)
    cosines = (wholes @ wholes.T)[first, second]
    bits = different(hashes[first], hashes[second])
    console = Console(width=140)
    console.print(table)
    columns = [-1.0, 0.6, 0.7, 0.8, 0.9, 0.94, 0.96]
    candidates = np.flatnonzero((bits <= 24) & (cosines > 0.5)).tolist()
    folded = sum(
        is_near(int(hashes[first[pair]]), int(hashes[second[pair]]), float(cosines[pair]))
        for pair in candidates
    )
    console.print(f"taken as near: {folded}")
    pairs = Table("bits at most", *(f"cosine ≥ {cosine}" for cosine in columns))
    for most in (6, 8, 10, 12, 16, 20, 24, 64):
        counts = [int(((bits <= most) & (cosines >= cosine)).sum()) for cosine in columns]
        pairs.add_row(str(most), *map(str, counts))
    console.print(f"pairs of different photographs, of {len(first):,}:")
    console.print(pairs)
    for pair in np.argsort(bits - 100 * cosines)[:12].tolist():
        names = [Path(chosen[int(number[pair])].path).name for number in (first, second)]
        console.print(f"{bits[pair]} bits, cosine {cosines[pair]:.3f}: {names[0]} {names[1]}")


if __name__ == "__main__":
    main()
