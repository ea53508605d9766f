"""Measure adding images one by one: shards left, and time beyond the models.

    python scripts/measure_adding.py --images 1000

The models are instant and know nothing, so what is measured is decoding, writing and merging. The
time that they take all the same is subtracted.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image

import retrieval_grounding as rg


class Clock:
    """Adds up the time that models take."""

    seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of the block."""
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started


class GridDetector:
    """Returns the whole image and the 19 largest cells of a grid."""

    fingerprint = "grid 1"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def detect(self, images: Sequence[Image.Image]) -> list[rg.Regions]:
        """Return the same regions for every image of a size."""
        with self._clock.running():
            return [self._grid(*image.size) for image in images]

    def _grid(self, width: int, height: int) -> rg.Regions:
        x, y = width / 5, height / 4
        cells = [(c * x, r * y, (c + 1) * x, (r + 1) * y) for c in range(5) for r in range(4)]
        found = rg.Regions(cells[1:], np.full(19, 0.5), ["cell"] * 19)
        return rg.Regions.concatenate([rg.Regions.whole_image(width, height), found])


class RandomEncoder:
    """Returns random vectors of 512 numbers."""

    fingerprint = rg.Fingerprint("random", "1", "none")
    dimension = 512

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._random = np.random.default_rng(0)

    def encode_regions(
        self, images: Sequence[Image.Image], regions: Sequence[rg.Regions]
    ) -> npt.NDArray[np.float32]:
        """Return a vector for each region."""
        with self._clock.running():
            return self._vectors(sum(map(len, regions)))

    def encode_phrases(self, phrases: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return a vector for each phrase."""
        with self._clock.running():
            return self._vectors(len(phrases))

    def _vectors(self, count: int) -> npt.NDArray[np.float32]:
        rows = self._random.normal(size=(count, self.dimension)).astype(np.float32)
        found: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return found


def photograph(number: int, width: int, height: int) -> bytes:
    """Return a JPEG whose content no other number has."""
    small = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((width, height)).save(buffer, "JPEG")
    return buffer.getvalue()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"))
    arguments = parser.parse_args()
    clock = Clock()
    detector, encoder = GridDetector(clock), RandomEncoder(clock)
    beyond, most = [], 0
    with tempfile.TemporaryDirectory() as folder:
        nothing_yet = rg.BuildOptions(allow_empty=True, progress=False)
        with rg.build([], folder, detector=detector, clip=encoder, options=nothing_yet) as index:
            for number in range(arguments.images):
                data = photograph(number, *arguments.size)
                in_models, started = clock.seconds, time.perf_counter()
                index.add(data, detector=detector)
                took = time.perf_counter() - started
                beyond.append(1000 * (took - clock.seconds + in_models))
                most = max(most, index.info()["shards"])
            shards, faults = index.info()["shards"], index.verify().faults
    times = np.array(beyond)
    sys.stdout.write(
        f"{arguments.images} images of {arguments.size[0]} × {arguments.size[1]}, 20 regions each, "
        f"added one by one: {shards} shards, at most {most} meanwhile; beyond the models mean "
        f"{times.mean():.1f} ms, median {np.median(times):.1f}, 95th percentile "
        f"{np.percentile(times, 95):.1f}, largest {times.max():.0f}; {len(faults)} faults\n"
    )


if __name__ == "__main__":
    main()
