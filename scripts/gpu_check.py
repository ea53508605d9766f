"""Run all that needs an NVIDIA GPU, and print a table: what is right, and how fast it is.

    scripts/gpu_check                     # all of it, in less than four minutes
    scripts/gpu_check --only search train

Each check runs in a process of its own with a limit of time, so that a crash or a hang costs one
line of the table. The models are those of the package and the pictures are drawn, so nothing is
downloaded. Without a GPU it says so and ends; without ``faiss-gpu`` the search runs on the CPU,
and its check says that it was skipped. The exit status is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

Result = dict[str, Any]

TOTAL_SECONDS = 225.0
CHECK_SECONDS = 90.0
TESTS = ("test_pipeline", "test_suppression", "test_bert_text", "test_models", "test_groups",
         "test_vectors")  # fmt: skip
"""Files with tests that are skipped without a GPU."""
CLOSE = 1e-2  # cosine distance of embeddings on the two devices
SURE, SAME_BOX = 0.25, 0.9  # score and IoU of boxes that both must find
ROUNDING = 1e-6  # of a cosine; regions whose cosines differ less may change places
DEVICE = "cuda"  # or "cpu", for a rehearsal


class SkippedError(Exception):
    """A check cannot run here, and why."""


def timed(action: Callable[[], Any], repeat: int = 5) -> float:
    """Return the least seconds that an action takes, after one run to warm up."""
    import torch

    wait = torch.cuda.synchronize if DEVICE == "cuda" else int
    times = []
    for _ in range(repeat + 1):
        wait()
        began = time.perf_counter()
        action()
        wait()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def drawn_photos(folder: Path, count: int) -> Path:
    """Draw pictures of colored blocks."""
    from PIL import Image, ImageDraw

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        picture = Image.new("RGB", (640, 480), tuple(random.integers(0, 255, 3).tolist()))
        draw = ImageDraw.Draw(picture)
        for _ in range(8):
            x, y = random.integers(0, 500, 2).tolist()
            fill = tuple(random.integers(0, 255, 3).tolist())
            draw.rectangle((x, min(y, 380), x + 120, min(y, 380) + 90), fill=fill)
        picture.save(folder / f"{number:04d}.jpg", quality=90)
    return folder


def check_tests() -> Result:
    """Run the tests that skip without a GPU."""
    root = Path(__file__).resolve().parents[1]
    files = [f"tests/{name}.py" for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *files,
               "-k", "gpu or cuda or GPU"]  # fmt: skip
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:]
    return {"ok": done.returncode == 0, "shown": last}


def check_kernels() -> Result:
    """Compare regions and embeddings of both devices on the same pictures."""
    from PIL import Image

    import retrieval_grounding as rg

    with TemporaryDirectory() as folder:
        files = sorted(drawn_photos(Path(folder), 8).iterdir())
        pictures = []
        for path in files:
            with Image.open(path) as opened:
                pictures.append(opened.convert("RGB"))
    whole = [rg.Regions.whole_image(*picture.size) for picture in pictures]
    there, here = (
        rg.load_encoder("nano", device).encode_regions(pictures, whole)
        for device in (DEVICE, "cpu")
    )
    worst = float((1 - (there * here).sum(1)).max())
    return {"ok": worst <= CLOSE, "shown": f"largest cosine distance {worst:.2g}"}


def check_detector() -> Result:
    """Compare what the detector finds on both devices."""
    from PIL import Image

    import retrieval_grounding as rg
    from retrieval_grounding.cli.demo import demo_photographs
    from retrieval_grounding.core.regions import pairwise_iou

    pictures = []
    for path in demo_photographs()[:4]:
        with Image.open(path) as opened:
            pictures.append(opened.convert("RGB"))
    if not pictures:
        raise SkippedError("no photographs are installed")
    there, here = (
        rg.load_detector("nano", None, device).detect(pictures) for device in (DEVICE, "cpu")
    )
    sure, found = 0, 0
    for one, other in zip(there, here, strict=True):
        boxes = other.boxes[other.scores >= SURE]
        sure += len(boxes)
        found += int((pairwise_iou(boxes, one.boxes).max(1) >= SAME_BOX).sum())
    counts = [(len(one), len(other)) for one, other in zip(there, here, strict=True)]
    return {
        "ok": found >= 0.98 * sure,
        "shown": f"{found} of the CPU's {sure} sure boxes are found; regions on both: {counts}",
    }


def check_build() -> Result:
    """Build an index of 300 pictures on the GPU, and verify it."""
    import retrieval_grounding as rg

    with TemporaryDirectory() as work:
        photos = drawn_photos(Path(work) / "photos", 300)
        quiet = rg.BuildOptions(progress=False)
        rg.build(sorted(photos.iterdir())[:8], Path(work) / "warm", device=DEVICE, options=quiet)
        began = time.perf_counter()
        index = rg.build(photos, Path(work) / "index", device=DEVICE, options=quiet)
        seconds = time.perf_counter() - began
        regions = index.info()["regions"]
        faults = index.verify(options=quiet).faults
        index.close()
    return {
        "ok": not faults,
        "shown": f"{300 / seconds:.1f} images/s, {regions / seconds:.0f} crops/s",
    }


def synthetic_index(folder: Path, images: int) -> Path:
    """Write an index of random regions, without models."""
    import retrieval_grounding as rg
    from retrieval_grounding.storage.catalog import Catalog
    from retrieval_grounding.storage.rows import StoredImage
    from retrieval_grounding.storage.shard_format import ImageRecord, write_shard

    encoder = rg.load_encoder("nano", "cpu")
    names = ["whole image", "dog", "car", "person"]
    labels = encoder.encode_phrases(names)
    random = np.random.default_rng(0)
    fingerprint = encoder.fingerprint
    catalog = Catalog.create(
        folder,
        {
            "detector_fingerprint": "drawn",
            "encoder_fingerprint": vars(fingerprint),
            "clip": "nano",
            "dimension": encoder.dimension,
        },
    )
    for start in range(0, images, 512):
        records = []
        for number in range(start, min(images, start + 512)):
            kinds = random.integers(1, len(names), 24)
            corners = random.uniform(0, 400, (24, 2))
            boxes = np.concatenate([corners, corners + random.uniform(20, 80, (24, 2))], 1)
            vectors = labels[kinds] + 0.6 * random.normal(size=(24, encoder.dimension)) / 16
            vectors = np.concatenate([random.normal(size=(1, encoder.dimension)), vectors])
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            regions = rg.Regions(
                np.concatenate([[[0, 0, 640, 480]], boxes]),
                np.concatenate([[1.0], random.uniform(0.3, 1, 24)]),
                ["whole image", *(names[kind] for kind in kinds)],
            )
            colors = random.integers(0, 255, (25, 11)).astype(np.uint8)
            records.append(ImageRecord(f"{number:032x}", 640, 480, regions, vectors, colors))
        written = write_shard(
            folder / "shards", catalog.next_shard(), records,
            embed_labels=encoder.encode_phrases, detector="drawn", encoder=str(fingerprint),
        )  # fmt: skip
        catalog.commit(
            shard=written,
            images=[
                StoredImage(f"/drawn/{start + row:06d}.jpg", 1, 1, written.number, row)
                for row in range(len(records))
            ],
        )
    catalog.close()
    return folder


PHRASES = [
    "a dog", "the car on the left", "a person next to a car", "the second dog from the left",
    "a person", "the largest car", "a dog behind a person", "the right car",
]  # fmt: skip


def check_search() -> Result:
    """Compare the nearest regions of both devices, near ties included, and their speed."""
    import retrieval_grounding as rg
    from retrieval_grounding.storage.vectors.gpu import gpu_numbers

    if not gpu_numbers(DEVICE):
        raise SkippedError("needs the package faiss-gpu")
    with TemporaryDirectory() as work:
        folder = synthetic_index(Path(work) / "index", 4096)
        encoder = rg.load_encoder("nano", "cpu")
        queries = encoder.encode_phrases(PHRASES)
        states = []
        for device in (DEVICE, "cpu"):
            index = rg.Index.open(folder, encoder=encoder, device=device)
            states.append(index._opened.retriever.snapshot())
            states[-1].vectors.nearest(queries, 100)
        there, here = (state.vectors.nearest(queries, 100)[0] for state in states)
        score = states[1].vectors.shard_vectors.score
        gap = max(
            float(
                np.abs(np.subtract(*(score(query[None], ids[None, :400])[0] for ids in both))).max()
            )
            for query, *both in zip(queries, there, here, strict=True)
        )
        wide = [state.vectors.nearest(queries[:1], 100, wider=16)[0][0] for state in states]
        same = np.array_equal(*wide)  # more than a GPU can select
        seconds = timed(lambda: states[0].vectors.nearest(queries[:1], 100))
        where = states[0].device
    return {
        "ok": gap <= ROUNDING and same and where.startswith("cuda"),
        "shown": f"cosines at the same rank differ by {gap:.1g} at most, {seconds * 1e3:.2f} ms, "
        f"on {where}",
    }


def check_query() -> Result:
    """Compare the hits of both devices."""
    import retrieval_grounding as rg

    with TemporaryDirectory() as work:
        folder = synthetic_index(Path(work) / "index", 2048)
        found = {}
        for device in (DEVICE, "cpu"):
            index = rg.Index.open(folder, encoder="nano", device=device)
            found[device] = index.query(PHRASES, exact=True)
            if device == DEVICE:
                seconds = timed(partial(index.query, PHRASES[0]))
    same, gaps = [], []
    for there, here in zip(found[DEVICE], found["cpu"], strict=True):
        scores = {hit.image: hit.score for hit in there}
        same.append(len(scores.keys() & {hit.image for hit in here}) / max(1, len(here)))
        gaps += [abs(scores[hit.image] - hit.score) for hit in here if hit.image in scores]
    return {
        "ok": float(np.mean(same)) >= 0.95 and max(gaps, default=1) < 0.05,
        "shown": f"{np.mean(same):.1%} of hits are the same, scores within {max(gaps):.2g}, "
        f"{seconds * 1e3:.1f} ms a query",
    }


def check_train() -> Result:
    """Train a matcher on the GPU for some epochs."""
    import retrieval_grounding as rg

    with TemporaryDirectory() as work:
        folder = synthetic_index(Path(work) / "index", 96)
        with rg.Index.open(folder, encoder="nano", device=DEVICE) as index:
            options = rg.TrainingOptions(epochs=2, progress=False)
            began = time.perf_counter()
            fit = index.train("pseudo", options=options, from_scratch=True)
            seconds = time.perf_counter() - began
    losses = [epoch.loss for epoch in fit.history.epochs]
    return {
        "ok": bool(losses) and bool(np.isfinite(losses).all()),
        "shown": f"{fit.expressions} expressions, {seconds:.1f} s for {len(losses)} epochs, "
        f"loss {losses[0]:.2f} → {losses[-1]:.2f}",
    }


def check_halving() -> Result:
    """Give the models more than fits into memory: batches are halved until it does."""
    import torch

    from retrieval_grounding.models.batch_size import AdaptiveBatchSize

    if DEVICE != "cuda":
        raise SkippedError("the memory of a CPU is not filled on purpose")
    free, _ = torch.cuda.mem_get_info()
    sizes: list[int] = []

    def work(items: list[int]) -> list[int]:
        sizes.append(len(items))
        held = torch.empty(len(items) * (free // 3), dtype=torch.uint8, device="cuda")
        del held
        return items

    done = AdaptiveBatchSize()(work, list(range(8)))
    return {"ok": done == list(range(8)), "shown": f"batches of {sizes}"}


CHECKS: dict[str, Callable[[], Result]] = {
    "kernels": check_kernels,
    "detector": check_detector,
    "halving": check_halving,
    "search": check_search,
    "query": check_query,
    "build": check_build,
    "train": check_train,
    "tests": check_tests,
}


def run_one(name: str) -> None:
    """Run one check in this process, and print its result as JSON."""
    try:
        result = CHECKS[name]()
    except SkippedError as error:
        result = {"ok": None, "shown": str(error)}
    print(json.dumps(result))


def run_in_child(name: str, seconds: float) -> Result:
    """Run one check in a new process."""
    rehearse = ["--rehearse"] if DEVICE == "cpu" else []
    command = [sys.executable, __file__, "--in-child", name, *rehearse]
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            problem = (done.stderr.strip().splitlines() or ["no output"])[-1]
            result: Result = {"ok": False, "shown": problem}
        else:
            result = json.loads(lines[-1])
    except subprocess.TimeoutExpired:
        result = {"ok": False, "shown": f"not done after {seconds:.0f} s"}
    return result | {"seconds": time.monotonic() - began}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--rehearse", action="store_true", help="run on the CPU instead, to try this script"
    )
    parser.add_argument("--in-child", choices=CHECKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    import torch

    if options.rehearse:
        global DEVICE  # noqa: PLW0603 - of this process and, through the argument, its children
        DEVICE = "cpu"
    elif not torch.cuda.is_available():
        print("this machine has no NVIDIA GPU that PyTorch can use, so there is nothing to check")
        return 0
    if options.in_child:
        run_one(options.in_child)
        return 0
    console = Console(width=120)
    table = Table("check", "", "s", "what was found")
    results: dict[str, Result] = {}
    began = time.monotonic()
    for name in options.only:
        left = TOTAL_SECONDS - (time.monotonic() - began)
        if left < 1:
            results[name] = {"ok": None, "shown": "no time was left", "seconds": 0.0}
        else:
            results[name] = run_in_child(name, min(CHECK_SECONDS, left))
        found = results[name]
        word = {True: "right", False: "WRONG", None: "skipped"}[found["ok"]]
        table.add_row(name, word, f"{found['seconds']:.1f}", found["shown"])
        console.print(f"{name}: {word}, {found['seconds']:.1f} s, {found['shown']}")
        if options.json:  # after each, for a machine that is taken away
            options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(table)
    versions = f"PyTorch {torch.__version__}, Python {platform.python_version()}"
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU"
    console.print(f"{device}, {versions}, {time.strftime('%Y-%m-%d')}")
    return int(any(found["ok"] is False for found in results.values()))


if __name__ == "__main__":
    sys.exit(main())
