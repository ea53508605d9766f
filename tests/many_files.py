"""Time builds of a collection with many tiny files, with models that take no time.

python tests/many_files.py --images 100000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import retrieval_grounding as rg
from retrieval_grounding.core.regions import Regions
from retrieval_grounding.models.encoder import Fingerprint


class InstantDetector:
    fingerprint = "whole images only"

    def detect(self, images):
        return [Regions.whole_image(*image.size) for image in images]


class InstantEncoder:
    fingerprint = Fingerprint("instant", "weights-1", "none")
    dimension = 4

    def encode_regions(self, images, regions):
        vectors = np.array([(*image.getpixel((0, 0)), 20) for image in images], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_phrases(self, phrases):
        return np.tile(np.array([[1, 0, 0, 0]], np.float32), (len(phrases), 1))


def run(folder: Path, count: int) -> dict[str, float]:
    """Return the seconds of a first build, of unchanged ones, and of ones after changes."""
    photos, index = folder / "photos", folder / "index"
    for number in range(count):
        parent = photos / f"{number // 1000:04}"
        if number % 1000 == 0:
            parent.mkdir(parents=True)
        color = (number & 255, number >> 8 & 255, number >> 16)
        Image.new("RGB", (4, 4), color).save(parent / f"{number:06}.bmp")

    def build() -> float:
        started = time.perf_counter()
        options = rg.BuildOptions(batch_images=64, progress=False)
        rg.build(photos, index, detector=InstantDetector(), clip=InstantEncoder(), options=options)
        return time.perf_counter() - started

    times = {"first build": build()}
    time.sleep(2)  # younger files are read again
    times["unchanged, once settled"] = build()
    times["unchanged"] = build()
    Image.new("RGB", (5, 5), (9, 9, 9)).save(photos / "0000" / "new.bmp")
    times["one image added"] = build()
    (photos / "0000" / "000007.bmp").unlink()
    times["one image deleted"] = build()
    (photos / "0000").rename(photos / "renamed")
    times["1000 images moved"] = build()
    started = time.perf_counter()
    opened = rg.Index.open(index, encoder=InstantEncoder())
    opened.query("red")
    times["open and query"] = time.perf_counter() - started
    started = time.perf_counter()
    assert not opened.verify(options=rg.BuildOptions(progress=False)).faults
    times["verify"] = time.perf_counter() - started
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in run(Path(folder), arguments.images).items():
            sys.stdout.write(f"{name}: {seconds:.2f} s\n")


if __name__ == "__main__":
    main()
