"""Kill writers of an index at random moments, and check that nothing is lost or duplicated.

    python tests/kill_writers.py --kills 200

Each round changes the collection (add, change, rename, copy, delete), starts a child that builds,
adds, removes or compacts, and kills it with SIGKILL. After each round the index must open, answer,
and pass verification; at the end it must equal one that was built without interruption.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fakes import COLORS, ColorEncoder, SquareDetector, draw_squares

import retrieval_grounding as rg
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.shards import ShardReader

OPTIONS = rg.BuildOptions(
    batch_images=4, shard_images=16, workers=2, progress=False, prune=True, restore=True
)


class SlowDetector(SquareDetector):
    """Is slow, so that a build takes a while, and signals when the first images arrive."""

    def __init__(self, began: int) -> None:
        super().__init__()
        self._began: int | None = began

    def detect(self, images):
        if self._began is not None:
            os.close(self._began)
            self._began = None
        time.sleep(0.01)
        return super().detect(images)


def draw(path: Path, generator: random.Random) -> None:
    squares = {}
    for name in generator.sample(sorted(COLORS), generator.randint(0, 2)):
        x, y = generator.randrange(60), generator.randrange(40)
        squares[name] = (x, y, x + generator.randint(3, 20), y + generator.randint(3, 20))
    draw_squares(path, squares, size=(80 + generator.randrange(9), 60 + generator.randrange(9)))


def change(photos: Path, generator: random.Random) -> None:
    """Change a few files of the collection in every possible way."""
    for _ in range(generator.randint(3, 12)):
        files = sorted(photos.iterdir())
        new = photos / f"{generator.getrandbits(40):010x}.png"
        kind = generator.choice(("add", "add", "change", "rename", "copy", "delete"))
        if kind == "add" or len(files) < 5:
            draw(new, generator)
        elif kind == "change":
            draw(generator.choice(files), generator)
        elif kind == "rename":
            generator.choice(files).rename(new)
        elif kind == "copy":
            shutil.copy(generator.choice(files), new)
        else:
            generator.choice(files).unlink()


def build(photos: Path, index: Path, detector: SquareDetector | None = None) -> rg.Index:
    detector = detector or SquareDetector()
    return rg.build(photos, index, detector=detector, clip=ColorEncoder(), options=OPTIONS)


def use_one_thread() -> None:
    """Keep libraries in a forked child from waiting for OpenMP threads, which a fork loses."""
    import faiss
    import torch

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)


def write(photos: Path, index: Path, action: str, seed: int, began: int) -> None:
    """Do the child's work until it is killed; close `began` when a build has images to detect."""
    if action == "remove":
        opened = rg.Index(index)
        paths = [image.path for image in opened.images()]
        opened.remove(random.Random(seed).sample(paths, min(20, len(paths))))
    elif action == "compact":
        rg.Index(index).compact(0.0, 16)
    elif action == "add":  # one by one, so that small shards are merged
        opened = rg.Index(index, encoder=ColorEncoder())
        files = sorted(photos.iterdir())
        for path in random.Random(seed).sample(files, min(30, len(files))):
            opened.add(path, detector=SquareDetector(), options=OPTIONS)
    else:
        build(photos, index, SlowDetector(began))


def kill_one(
    photos: Path, index: Path, action: str, longest: float, generator: random.Random
) -> bool:
    """Start a writer and kill it within `longest` seconds; return whether it was still running.

    Most builds are killed after their first images, because starting takes longer than working.
    """
    seed = generator.getrandbits(32)
    wait = generator.uniform(0, longest)
    working = action == "build" and generator.random() < 0.8
    began, beginning = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(began)
        try:
            use_one_thread()
            write(photos, index, action, seed, beginning)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(beginning)
    if working:
        os.read(began, 1)  # ends when the child closes the pipe, or ends
    os.close(began)
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"the writer failed during {action}")
    return os.WIFSIGNALED(status)


def content(index: Path) -> dict[str, tuple[object, ...]]:
    """Return everything that is stored about every image."""
    catalog = Catalog(index)
    files = catalog.shard_files()
    found = {}
    for image in catalog.images():
        assert image.path not in found, "duplicated"
        reader = ShardReader(index / "shards" / files[image.shard], image.shard)
        rows = reader.image_slice(image.row)
        regions = reader.regions(image.row)
        stored = (regions.boxes.tolist(), regions.scores.tolist(), regions.labels)
        found[image.path] = (
            (image.width, image.height), stored, reader.embeddings[rows].tolist(),
            reader.colors[rows].tolist(),
        )  # fmt: skip
    return found


def hits(index: Path) -> list[tuple[object, ...]]:
    opened = rg.Index.open(index, encoder=ColorEncoder())
    answers = opened.query(sorted(COLORS), top=10_000, candidates=10_000)
    return sorted((h.phrase, h.image, h.box, h.score, h.label) for a in answers for h in a)


def check(index: Path) -> None:
    opened = rg.Index.open(index, encoder=ColorEncoder())
    report = opened.verify(options=OPTIONS)
    assert not report.faults, report.faults
    shown = {hit.image for hit in opened.query("red", top=10_000, candidates=10_000)}
    assert shown == {image.path for image in opened.images()}


def run(folder: Path, kills: int, images: int, seed: int) -> Counter[str]:
    """Kill `kills` writers; return how many of each kind, and how many had already finished."""
    generator = random.Random(seed)
    photos, index = folder / "photos", folder / "index"
    photos.mkdir()
    for number in range(images):
        draw(photos / f"{number:04}.png", generator)
    counts: Counter[str] = Counter()
    longest = {"build": 0.4, "remove": 0.03, "compact": 0.15, "add": 0.6}
    while counts["killed"] < kills or not all(counts[f"killed in {action}"] for action in longest):
        change(photos, generator)
        actions = ("build", "build", "build", "remove", "compact", "add")
        action = generator.choice(actions) if (index / "catalog.sqlite").exists() else "build"
        if kill_one(photos, index, action, longest[action], generator):
            counts["killed"] += 1
            counts[f"killed in {action}"] += 1
        else:  # this machine is quicker
            counts["had finished"] += 1
            longest[action] *= 0.8
        if (index / "catalog.sqlite").exists():
            check(index)
    build(photos, index)
    rg.Index(index).compact(0.0, 16)
    check(index)
    build(photos, folder / "undisturbed")
    ours, theirs = content(index), content(folder / "undisturbed")
    assert ours.keys() == {str(path) for path in photos.iterdir()}, "lost or duplicated images"
    assert ours == theirs, "regions differ from those of an undisturbed build"
    assert hits(index) == hits(folder / "undisturbed"), (
        "hits differ from those of an undisturbed build"
    )
    left = sorted(path.name for path in index.rglob("*") if path.name.startswith("."))
    assert set(left) <= {".writer.lock"}, left
    names = {path.name for path in (index / "shards").iterdir()}
    assert names == set(Catalog(index).shard_files().values()), "orphans"
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(Path(folder), arguments.kills, arguments.images, arguments.seed)
    sys.stdout.write(
        f"{dict(counts)} in {time.perf_counter() - started:.0f} s: 0 lost, 0 duplicated\n"
    )


if __name__ == "__main__":
    main()
