"""How much slower a query becomes beside other busy processes.

Threads that wait by spinning fight for the cores with everything else that runs. This queries an
index with single phrases, in turns on a quiet machine and beside busy processes, and prints the
median and the 90th percentile of both.

    python scripts/measure_busy.py indexes/coco
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

import retrieval_grounding as rg

PHRASES = ("a red bus", "a man with an umbrella", "two dogs", "the second car from the left")


def main() -> None:
    """Ask in rounds of both kinds, so that drifts of the machine's speed fall on both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("index", help="folder of an index whose encoder can be loaded by name")
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 2, help="busy processes")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--queries", type=int, default=25, help="for each round")
    arguments = parser.parse_args()
    index = rg.Index.open(arguments.index)
    index.query(list(PHRASES))
    quiet: list[float] = []
    beside: list[float] = []
    for _ in range(arguments.rounds):
        quiet += ask(index, arguments.queries)
        with busy_processes(arguments.busy):
            beside += ask(index, arguments.queries)
    print(f"{len(index)} images, {arguments.busy} busy processes, {os.cpu_count()} cores")
    print("               p50 ms   p90 ms")
    for name, times in (("quiet", quiet), ("beside busy", beside)):
        p50, p90 = np.percentile(times, [50, 90]) * 1e3
        print(f"{name:12} {p50:8.1f} {p90:8.1f}")
    print(f"{'ratio':12} {np.median(beside) / np.median(quiet):8.2f}")


def ask(index: rg.Index, count: int) -> list[float]:
    """Return the seconds that each of `count` single queries took."""
    taken = []
    for number in range(count):
        started = time.perf_counter()
        index.query(PHRASES[number % len(PHRASES)])
        taken.append(time.perf_counter() - started)
    return taken


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep `count` processes busy while the block runs."""
    program = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(program) for _ in range(count)]
    time.sleep(0.3)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
