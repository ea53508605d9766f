"""Measure what a command takes from start to end, beside other checkouts if wanted.

    python scripts/bench_start.py INDEX --repeat 5 --beside ../other-checkout

On a busy machine compare seconds of CPU, and ratios; checkouts take turns.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median


def run(checkout: Path, arguments: list[str], cache: str) -> tuple[float, float]:
    """Return seconds on the clock and of CPU."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # who installs a package has its bytecode
    command = [sys.executable, "-m", "retrieval_grounding", *arguments]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=checkout, env=environment, capture_output=True, check=True)
    elapsed, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a table: medians, and the shortest run in brackets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--phrase", default="a red bus")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--beside", type=Path, action="append", default=[])
    options = parser.parse_args()
    index = str(options.index.resolve())
    checkouts = [path.resolve() for path in (Path(__file__).parents[1], *options.beside)]
    print("| command | checkout | seconds | seconds of CPU |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        for arguments in (["--help"], ["info", index], ["query", index, options.phrase]):
            taken: dict[Path, list[tuple[float, float]]] = {path: [] for path in checkouts}
            for number in range(options.repeat + 1):
                for path, runs in taken.items():
                    once = run(path, arguments, cache)
                    if number:  # the first compiles and warms the page cache
                        runs.append(once)
            for path, runs in taken.items():
                cells = [
                    f"{median(column):.2f} ({min(column):.2f})"
                    for column in zip(*runs, strict=True)
                ]
                print(f"| {arguments[0]} | {path.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
