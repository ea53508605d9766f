"""Compare decoding in processes, as builds do, with decoding in threads.

    python scripts/measure_decoding.py PHOTOS --workers 2

Both are timed alternately in one run, so their ratio is meaningful even on a busy machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from retrieval_grounding import find_images, load_image
from retrieval_grounding.data.prefetch import read_ahead


def in_threads(paths: Sequence[str], workers: int) -> None:
    """Decode with threads of this process."""
    with ThreadPoolExecutor(workers) as pool:
        deque(pool.map(lambda path: load_image(path).size, paths), maxlen=0)


def in_processes(paths: Sequence[str], workers: int) -> None:
    """Decode as builds do."""
    deque((item.path for item in read_ahead(paths, (), workers)), maxlen=0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    paths = find_images(arguments.photos)
    ways: dict[str, Callable[[Sequence[str], int], None]] = {
        "threads": in_threads, "processes": in_processes,
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, decode in ways.items():
            started = time.perf_counter()
            decode(paths, arguments.workers)
            seconds[name].append(time.perf_counter() - started)
    for name, taken in seconds.items():
        print(f"{name}: {len(paths) / statistics.median(taken):.1f} images/s")
    ratios = [a / b for a, b in zip(seconds["threads"], seconds["processes"], strict=True)]
    print(f"processes are {statistics.median(ratios):.2f} times as fast (median of rounds)")


if __name__ == "__main__":
    main()
