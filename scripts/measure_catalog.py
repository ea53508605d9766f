"""How long opening, info, remove and builds of nothing new take with a million images.

    python scripts/measure_catalog.py --work /tmp/catalog --images 1000000

The index is synthetic: one tiny region an image, no vector index to speak of, and a catalog as a
build writes it. Every command is timed in a new process, beside what an empty command takes, as
seconds on the clock and of CPU; the machine may be busy. With ``--files``, as many empty files are
made for a build that finds nothing new; else the build is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import retrieval_grounding as rg
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.rows import StoredImage
from retrieval_grounding.storage.shard_format import ImageRecord, write_shard
from retrieval_grounding.storage.vectors.sync import sync_vectors

SHARD_IMAGES = 8192
PER_FOLDER = 1000


def write_index(folder: Path, photos: Path, images: int, files: bool) -> None:
    """Write the index and, if wanted, its empty files."""
    encoder = rg.load_encoder("nano", "cpu")
    prints = vars(encoder.fingerprint)
    settings = {
        "preset": "nano", "detector": "nano", "clip": "nano", "dimension": encoder.dimension,
        "detector_fingerprint": rg.load_detector("nano", None, "cpu").fingerprint,
        "encoder_fingerprint": prints, "detector_settings": vars(rg.DetectorSettings()),
        "created_with": "measure_catalog",
    }  # fmt: skip
    catalog = Catalog.create(folder, settings)
    random = np.random.default_rng(0)
    whole = rg.Regions.whole_image(640, 480)
    colors = np.zeros((1, 11), np.uint8)
    for start in range(0, images, SHARD_IMAGES):
        count = min(SHARD_IMAGES, images - start)
        vectors = random.normal(size=(count, 1, encoder.dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        records = [
            ImageRecord(f"{start + row:032x}", 640, 480, whole, vectors[row], colors)
            for row in range(count)
        ]
        written = write_shard(
            folder / "shards", catalog.next_shard(), records,
            embed_labels=lambda names: np.zeros((len(names), encoder.dimension), np.float32),
            detector=settings["detector_fingerprint"], encoder=str(encoder.fingerprint),
        )  # fmt: skip
        stored = []
        for row in range(count):
            number = start + row
            path = photos / f"{number // PER_FOLDER:06d}" / f"{number:09d}.jpg"
            size, mtime = 1, 1
            if files:
                if number % PER_FOLDER == 0:
                    path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                status = path.stat()
                size, mtime = status.st_size, status.st_mtime_ns
            stored.append(StoredImage(str(path), size, mtime, written.number, row))
        catalog.commit(shard=written, images=stored)
    sync_vectors(catalog, progress=False)
    catalog.close()


PROGRAMS = {
    "import alone": "import retrieval_grounding as rg",
    "open": "import retrieval_grounding as rg; rg.Index.open(index, device='cpu')",
    "open and len": "import retrieval_grounding as rg; len(rg.Index.open(index, device='cpu'))",
    "info": "import retrieval_grounding as rg; rg.Index.open(index, device='cpu').info()",
    "remove one": (
        "import retrieval_grounding as rg; rg.Index.open(index, device='cpu').remove(one)"
    ),
    "remove a folder": (
        "import retrieval_grounding as rg; rg.Index.open(index, device='cpu').remove(folder)"
    ),
    "build of nothing new": (
        "import retrieval_grounding as rg;"
        "rg.build(photos, index, device='cpu', options=rg.BuildOptions(progress=False))"
    ),
}


def measure(program: str, values: dict[str, str]) -> tuple[float, float]:
    """Return the seconds and the seconds of CPU that a program takes in a new process."""
    text = f"globals().update({values!r}); {program}"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", text], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the index")
    parser.add_argument("--images", type=int, default=10**6)
    parser.add_argument("--files", action="store_true", help="make the files, and build")
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    made, photos = options.work / f"index-{options.images}", options.work / "photos"
    if not (made / "catalog.sqlite").exists():
        write_index(made, photos, options.images, options.files)
    used = options.work / "used"
    shutil.rmtree(used, ignore_errors=True)
    shutil.copytree(made, used)
    values = {
        "index": str(used),
        "photos": str(photos),
        "one": str(photos / "000000" / "000000007.jpg"),
        "folder": str(photos / "000001"),
    }
    found = {}
    for name in options.only:
        if name == "build of nothing new" and not photos.is_dir():
            continue
        seconds, cpu = measure(PROGRAMS[name], values)
        found[name] = {"s": seconds, "cpu s": cpu}
        print(f"{name:24} {seconds:7.2f} s {cpu:7.2f} s of CPU", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
