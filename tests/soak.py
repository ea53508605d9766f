"""Many readers against a writer that does everything, for minutes; nothing may be wrong or leak.

    python tests/soak.py --minutes 10

Eight threads share one open index and two more processes have their own, one of them forked. They
query while a writer adds, changes and removes images, compacts, rebuilds the vector index in every
kind, and trains. A photograph shows one color at one place, so every answer can be checked: its box
and its label must be those of a state that the index had during the query, and an image that is
never touched must always be found.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from fakes import COLORS, ColorEncoder, SquareDetector, draw_squares

import retrieval_grounding as rg
from retrieval_grounding.matching.matcher import CosineMatcher
from retrieval_grounding.storage import open_shards

THREADS = 8
KEPT, CHANGING = 12, 12
NAMES = list(COLORS)
OPTIONS = rg.BuildOptions(batch_images=4, shard_images=4, workers=1, progress=False, prune=True)
ALLOWED_GROWTH = 96 << 20
"""Of memory: what allocators, caches and the libraries' own threads keep differs by this much."""


def side(name: str, version: int) -> int:
    """Return the side of the square in a version of a photograph."""
    number = int(name.partition("-")[2].partition(".")[0])
    return 10 + number + version % 18


def draw(photos: Path, name: str, version: int) -> None:
    color = name.partition("-")[0]
    size = side(name, version)
    draw_squares(photos / name, {color: (0, 0, size, size)})


class State:
    """Which sides each changing photograph may have at the moment, written before and after."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "allowed.json"

    def write(self, allowed: dict[str, list[int]]) -> None:
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps(allowed))
        draft.replace(self.path)

    def read(self) -> dict[str, list[int]]:
        return json.loads(self.path.read_text())


def kept_names() -> list[str]:
    return [f"{NAMES[number % 4]}-{number}.png" for number in range(KEPT)]


def check(hits: list[rg.Hit], color: str, state: State, before: dict, counts: Counter[str]) -> None:
    """Count what is wrong with the answer for a color."""
    after = state.read()
    found = {Path(hit.image).name: hit for hit in hits}
    for name in kept_names():
        if name.startswith(color) and name not in found:
            counts["missing"] += 1
    if len(found) != len(hits):
        counts["wrong"] += 1
    for name, hit in found.items():
        if not name.startswith(color):
            continue
        sides = {side(name, 0)} if name in kept_names() else {*before[name], *after[name]}
        if hit.label != color or hit.box[2] != hit.box[3] or hit.box[2] not in sides:
            counts["wrong"] += 1
    counts["queries"] += 1


def read(index: rg.Index, state: State, ended: Callable[[], bool], counts: Counter[str]) -> None:
    generator = random.Random(threading.get_ident())
    while not ended():
        color = generator.choice(NAMES)
        before = state.read()
        exact = generator.random() < 0.2
        try:
            hits = index.query(color, top=100, matcher=CosineMatcher(), exact=exact)
            check(hits, color, state, before, counts)
            if generator.random() < 0.05:
                index.query(color, top=3)  # with the matcher that was trained last
                index.info()
        except Exception as error:
            counts["failed"] += 1
            sys.stderr.write(f"{type(error).__name__}: {error}\n")


def read_in_process(index: rg.Index | Path, folder: Path, end: float, results: Any) -> None:
    """Query in a process of its own: with an index that was inherited, or with a new one."""
    opened = rg.Index(index, encoder=ColorEncoder()) if isinstance(index, Path) else index
    counts: Counter[str] = Counter()
    warm_up(opened)
    first = usage()
    read(opened, State(folder), lambda: time.monotonic() > end, counts)
    results.put((dict(counts), grown(first)))


class Writer:
    """Does everything that writes, at random, one step at a time."""

    def __init__(self, folder: Path) -> None:
        self.photos, self.directory = folder / "photos", folder / "index"
        self.state = State(folder)
        self.generator = random.Random(0)
        self.names = [f"{NAMES[number % 4]}-{number}.png" for number in range(20, 20 + CHANGING)]
        self.allowed: dict[str, list[int]] = {name: [] for name in self.names}
        self.counts: Counter[str] = Counter()
        self.version = 0
        self.photos.mkdir()
        for name in kept_names():
            draw(self.photos, name, 0)
        self.state.write(self.allowed)
        self.build()
        self.index = rg.Index(self.directory, encoder=ColorEncoder())
        records = [
            {"image": name, "expression": f"the {name.partition('-')[0]} one {number}",
             "bbox_xywh": [0, 0, side(name, 0), side(name, 0)]}
            for name in kept_names() for number in range(3)
        ]  # fmt: skip
        self.references = folder / "references.jsonl"
        self.references.write_text("".join(f"{json.dumps(record)}\n" for record in records))

    def build(self) -> None:
        models: dict[str, Any] = {"detector": SquareDetector(), "clip": ColorEncoder()}
        rg.build(self.photos, self.directory, options=OPTIONS, **models).close()

    def step(self) -> None:
        action = self.generator.choice([
            self.change, self.change, self.change, self.remove, self.compact, self.reindex,
            self.reindex, self.train,
        ])  # fmt: skip
        action()
        self.counts[action.__name__] += 1

    def change(self) -> None:
        """Add, change and delete some photographs, and build."""
        chosen = self.generator.sample(self.names, 4)
        self.version += 1
        deleted = chosen[:1]
        for name in chosen[1:]:
            self.allowed[name] = [*self.allowed[name][-1:], side(name, self.version)]
        self.state.write(self.allowed)
        for name in chosen[1:]:
            draw(self.photos, name, self.version)
        for name in deleted:
            (self.photos / name).unlink(missing_ok=True)
        self.build()
        for name in chosen[1:]:
            self.allowed[name] = self.allowed[name][-1:]
        for name in deleted:
            self.allowed[name] = []
        self.state.write(self.allowed)

    def remove(self) -> None:
        present = [name for name in self.names if (self.photos / name).exists()]
        if present:
            name = self.generator.choice(present)
            (self.photos / name).unlink()
            indexed = {image.path for image in self.index.images()}
            if str(self.photos / name) in indexed:
                self.index.remove(self.photos / name)
            self.allowed[name] = []
            self.state.write(self.allowed)

    def compact(self) -> None:
        self.index.compact(0.0, 8)

    def reindex(self) -> None:
        self.index.reindex(self.generator.choice(["flat", "ivf", "hnsw"]), progress=False)

    def train(self) -> None:
        options = rg.TrainingOptions(epochs=1, seed=self.version, progress=False)
        self.index.train(self.references, options=options)


def warm_up(index: rg.Index) -> None:
    """Load what a process loads once, so that growth means a leak."""
    for exact in (False, True):
        index.query(NAMES, exact=exact)
    index.info()


def usage() -> dict[str, int]:
    gc.collect()
    process = psutil.Process()
    shards = len(open_shards._CACHE)  # an index may have more shards at the end
    return {"descriptors": process.num_fds() - shards, "bytes": process.memory_info().rss}


def grown(first: dict[str, int]) -> dict[str, int]:
    return {name: value - first[name] for name, value in usage().items()}


def soak(folder: Path, seconds: float) -> dict[str, Any]:
    """Run for some seconds; return what was counted."""
    writer = Writer(folder)
    for step in (writer.change, writer.compact, writer.reindex, writer.train, writer.remove):
        step()
    shared = rg.Index(writer.directory, encoder=ColorEncoder())
    warm_up(shared)
    end = time.monotonic() + seconds
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [
        context.Process(target=read_in_process, args=(index, folder, end, results))
        for index in (shared, writer.directory)
    ]
    for process in processes:
        process.start()
    first = usage()
    counts = [Counter[str]() for _ in range(THREADS)]
    threads = [
        threading.Thread(
            target=read, args=(shared, writer.state, lambda: time.monotonic() > end, own)
        )
        for own in counts
    ]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        writer.step()
    for thread in threads:
        thread.join()
    leaked = [grown(first)]
    for _ in processes:
        own, growth = results.get(timeout=120)
        counts.append(Counter(own))
        leaked.append(growth)
    for process in processes:
        process.join()
    shared.close()
    total = sum(counts, Counter())
    report = rg.Index(writer.directory, encoder=ColorEncoder()).verify()
    return {
        "queries": total["queries"],
        "steps": dict(writer.counts),
        "wrong": total["wrong"],
        "missing": total["missing"],
        "failed": total["failed"],
        "faults": len(report.faults),
        "leaked descriptors": [max(0, growth["descriptors"]) for growth in leaked],
        "grown MiB": [growth["bytes"] >> 20 for growth in leaked],
        "leaked files": leaked_files(writer.directory),
    }


def cycle(folder: Path, count: int) -> dict[str, Any]:
    """Open an index, query it and close it, again and again."""
    writer = Writer(folder)
    writer.index.close()
    first = {}
    for number in range(100 + count):
        if number == 100:
            first = usage()
        with rg.Index(writer.directory, encoder=ColorEncoder()) as index:
            index.query("red")
    growth = grown(first)
    return {"leaked descriptors": growth["descriptors"], "grown MiB": growth["bytes"] >> 20}


def leaked_files(directory: Path) -> list[str]:
    """Return the files that do not belong to an index."""
    index = rg.Index(directory, encoder=ColorEncoder())
    shards = set(index._catalog.shard_files().values())
    index.close()
    found = [path.name for path in (directory / "shards").iterdir() if path.name not in shards]
    found += [path.name for path in directory.glob("*.faiss")][1:]
    return found + [path.name for path in directory.glob(".*.partial")]


def is_sound(report: dict[str, Any]) -> bool:
    return (
        report["queries"] > 0
        and not any(report[name] for name in ("wrong", "missing", "failed", "faults"))
        and not report["leaked files"]
        and max(report["leaked descriptors"]) <= 2  # a flat vector index is mapped
        and max(report["grown MiB"]) <= ALLOWED_GROWTH >> 20
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--cycles", type=int, help="Only open, query and close this often.")
    arguments = parser.parse_args()
    os.environ["RETRIEVAL_GROUNDING_CONFIG"] = tempfile.mkdtemp()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.cycles:
            sys.stdout.write(f"{json.dumps(cycle(Path(folder), arguments.cycles))}\n")
            return
        report = soak(Path(folder), 60 * arguments.minutes)
    sys.stdout.write(f"{json.dumps(report, indent=2)}\n")
    sys.exit(0 if is_sound(report) else 1)


if __name__ == "__main__":
    main()
