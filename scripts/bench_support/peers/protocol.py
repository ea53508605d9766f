"""The protocol that all engines share: input files, measurements, output.

Each engine is a module run as ``python -m bench_support.peers.NAME build|search DATA FOLDER``, with
the Python of its own environment, so this module needs only NumPy. DATA holds

- ``vectors.npy``, float32 (n, d): the regions' embeddings, unit length;
- ``images.npy``, int64 (n,): the number of each region's image;
- ``phrases.npy``, float32 (p, d): the phrases' embeddings, unit length;
- ``truth.npy``, int64 (p, 100): the images of the exactly nearest regions.

``build`` builds the engine's index in FOLDER; ``search``, in a new process, opens and searches it.
The last line of the output is a JSON object of figures. Memory is read from ``/proc`` on Linux.

An engine lists its search settings, its default first. The fastest setting that reaches the target
recall on every second phrase is chosen, and measured on the other phrases. ``recall@100`` is the
share of the 100 images with the exactly nearest regions among 100 images found; ``recall@10`` is
the same for the first 10.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bench_support.recall import recall

CANDIDATES, SHOWN = 100, 10
WARM_UP, ROUNDS = 10, 3

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Setting = dict[str, Any]


class Engine(Protocol):
    """One search engine."""

    distribution: str
    """The package whose version is reported."""

    def build(self, data: Path, folder: Path) -> None:
        """Build the index of ``vectors.npy`` in an empty folder."""
        ...

    def open(self, data: Path, folder: Path) -> list[Setting]:
        """Open the index; return search settings, the default one first."""
        ...

    def search(self, phrase: Floats, k: int, setting: Setting) -> Rows:
        """Return the rows in ``vectors.npy`` of the nearest regions, best first."""
        ...

    def disk_bytes(self, data: Path, folder: Path) -> int:
        """Return the bytes of all files that a search reads."""
        ...


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def peak_mb() -> float:
    """Return the peak resident memory of this process, including mapped files.

    Not ``ru_maxrss``, in which a process starts with what its parent had.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main(engine: Engine) -> None:
    """Run an engine as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=("build", "search"))
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nearest", type=int, default=400, help="regions asked for")
    parser.add_argument("--target", type=float, default=0.98, help="recall aimed at")
    options = parser.parse_args()
    if options.action == "build":
        figures = measure_build(engine, options.data, options.folder)
    else:
        figures = measure_search(
            engine, options.data, options.folder, options.nearest, options.target
        )
    print(json.dumps(figures))


def measure_build(engine: Engine, data: Path, folder: Path) -> dict[str, Any]:
    """Build the index; return the time and memory it took."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    engine.build(data, folder)
    return {
        "version": version(engine.distribution),
        "build s": time.perf_counter() - began,
        "build peak MB": peak_mb(),
    }


def measure_search(
    engine: Engine, data: Path, folder: Path, nearest: int, target: float
) -> dict[str, Any]:
    """Open the index and search for the phrases one by one."""
    phrases, images = np.load(data / "phrases.npy"), np.load(data / "images.npy")
    truth = np.load(data / "truth.npy")
    choosing, telling = np.arange(0, len(phrases), 2), np.arange(1, len(phrases), 2)

    def ask(setting: Setting) -> Callable[[int], Rows]:
        return lambda number: engine.search(phrases[number], nearest, setting)

    began = time.perf_counter()
    settings = engine.open(data, folder)
    opened = time.perf_counter() - began
    first = milliseconds(ask(settings[0]), choosing[:1])[0]
    chosen = choose(settings, ask, choosing, images, truth, target)
    usual, tuned = (
        ask_all(ask(setting), telling, images, truth) for setting in (settings[0], chosen)
    )
    return {
        "disk MB": engine.disk_bytes(data, folder) / 2**20,
        "open s": opened,
        "first search ms": float(first),
        "default p50 ms": usual["p50 ms"],
        "default recall@100": usual["recall@100"],
        "setting": ", ".join(f"{name} {value}" for name, value in chosen.items()) or "default",
        **tuned,
        "search peak MB": peak_mb(),
    }


def choose(
    settings: list[Setting],
    ask: Callable[[Setting], Callable[[int], Rows]],
    numbers: Rows,
    images: Rows,
    truth: Rows,
    target: float,
) -> Setting:
    """Return the fastest setting that reaches a recall, or else the one with the highest recall.

    Larger values find more and take longer, so values above a sufficient setting are not tried. The
    values of the default setting, which is the first, are unknown.
    """
    if len(settings) == 1:
        return settings[0]
    # Slightly above the target, as in our own tuning: recall on other phrases is slightly lower.
    aim = target + (1 - target) / 4
    tried: list[tuple[float, float, Setting]] = []
    enough: list[Setting] = []
    for setting in settings:
        if any(all(setting.get(name, 0) >= value for name, value in own.items()) for own in enough):
            continue
        milliseconds(ask(setting), numbers[:WARM_UP])
        began = time.perf_counter()
        found = [ask(setting)(number) for number in numbers]
        seconds = time.perf_counter() - began
        share = recall(found, images, truth[numbers], CANDIDATES)
        tried.append((min(share, aim), -seconds, setting))
        if setting and share >= aim:
            enough.append(setting)
    return max(tried, key=lambda entry: entry[:2])[2]


def ask_all(
    ask: Callable[[int], Rows], numbers: Rows, images: Rows, truth: Rows
) -> dict[str, float]:
    """Return the latency of searches, and their recall of the exact images."""
    milliseconds(ask, numbers[:WARM_UP])
    taken = np.concatenate([milliseconds(ask, numbers) for _ in range(ROUNDS)])
    found = [ask(number) for number in numbers]
    return {
        "p50 ms": float(np.median(taken)),
        "p99 ms": float(np.percentile(taken, 99)),
        "recall@100": recall(found, images, truth[numbers], CANDIDATES),
        "recall@10": recall(found, images, truth[numbers], SHOWN),
    }


def milliseconds(ask: Callable[[int], Any], numbers: Rows) -> npt.NDArray[np.float64]:
    """Return the latency for each of some phrases."""
    taken = []
    for number in numbers:
        began = time.perf_counter()
        ask(number)
        taken.append(time.perf_counter() - began)
    return np.array(taken) * 1000
