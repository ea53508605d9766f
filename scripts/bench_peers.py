#!/usr/bin/env python3
"""Search the same region embeddings with other engines, each in a separate environment.

    python scripts/bench_peers.py --work /tmp/bench                  # 100,000 regions
    python scripts/bench_peers.py --work /tmp/bench --regions 1000000

Embeddings and phrases are those of ``bench_query.py``, whose folders are reused. Environments are
created with pip in WORK/environments, and reused. Peers return the nearest regions; only the column
"ours: whole query" scores all regions of the images found and ranks them again. All engines use
``--threads`` cores and threads. Their settings are chosen on every second phrase, to find --target
of the 100 images whose regions are exactly nearest, and measured on the other phrases. Each peer is
also measured with its default settings. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_query import ROOT, show
from bench_support.environments import NotInstalledError, environment, last_line
from bench_support.growing import grow_index, seed_index
from bench_support.peers.ours import PHRASES
from bench_support.peers.protocol import CANDIDATES
from bench_support.phrases import KnownPhrases, load_phrases
from bench_support.recall import exact_images

import retrieval_grounding as rg

SCRIPTS = ROOT / "scripts"
SHARED = Path(os.environ.get("RETRIEVAL_GROUNDING_SHARED", ROOT.parent / "shared"))
LONGEST = 3600.0
THREADS = ("OMP", "OPENBLAS", "MKL", "RAYON", "NUMEXPR")


@dataclass(frozen=True)
class Peer:
    """A module of ``bench_support.peers``, and what pip installs for it."""

    module: str
    requirements: tuple[str, ...]


PEERS = {
    "NumPy, as rclip": Peer("scan", ("numpy",)),
    "autofaiss": Peer("clip_retrieval", ("autofaiss", "pyarrow<21")),
    "LanceDB": Peer("lance", ("lancedb", "numpy")),
    "milvus-lite": Peer("milvus", ("pymilvus", "milvus-lite", "numpy")),
}
OURS = "ours: vectors"
RERANKED = "ours: whole query"


class FailedError(RuntimeError):
    """An engine ended with an error; the message is its last line."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for all results")
    parser.add_argument("--regions", type=int, nargs="+", default=[10**5])
    parser.add_argument("--phrases", type=int, default=200)
    parser.add_argument("--photos", type=int, default=250, help="photographs to embed at most")
    parser.add_argument("--nearest", type=int, default=400, help="regions that peers return")
    parser.add_argument("--target", type=float, default=0.98, help="recall to reach, of 100 images")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    work: Path = options.work.resolve()
    surroundings = bounded(options.threads)
    seed = seed_index(work / "seed", SHARED, options.photos)
    encoder = load_phrases(seed, SHARED, options.phrases)
    results: dict[str, Any] = {}
    for regions in options.regions:
        folder, data = work / f"index-{regions}", work / f"peers-{regions}"
        grow_index(seed, folder, regions)
        export(folder, data, encoder)
        asked = ("--nearest", options.nearest, "--target", options.target)
        columns, skipped = compare(work, data, folder, surroundings, asked)
        results[str(regions)] = {"columns": columns, "skipped": skipped}
        print(
            f"{regions:,} regions, {len(encoder.texts)} phrases, {options.threads} threads; "
            "peers end at the nearest regions and re-rank nothing"
        )
        show(columns)
        for name, reason in skipped.items():
            print(f"{name} is left out: {reason}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def bounded(threads: int) -> dict[str, str]:
    """Restrict this process and its children to some cores; return a matching environment."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    names = (*(f"{name}_NUM_THREADS" for name in THREADS), "LANCE_CPU_THREADS")
    limits = dict.fromkeys((*names, "TOKIO_WORKER_THREADS"), str(threads))
    # The checkout's package, as in this process, whatever the working folder.
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **limits, "PYTHONPATH": os.pathsep.join(paths)}


def export(folder: Path, data: Path, encoder: KnownPhrases) -> None:
    """Write an index's embeddings, images, phrases and the exact answers for all engines."""
    data.mkdir(parents=True, exist_ok=True)
    encoder.save(data / PHRASES)
    np.save(data / "phrases.npy", encoder.embeddings)
    stored = (
        rg.Index.open(folder, encoder=encoder, device="cpu")
        ._opened.retriever.snapshot()
        .vectors.shard_vectors
    )
    vectors = np.lib.format.open_memmap(
        data / "vectors.npy", "w+", np.float32, (len(stored), encoder.dimension)
    )
    ids = np.zeros(len(stored), np.int64)
    start = 0
    for rows, named in stored.blocks():
        stop = start + len(rows)
        vectors[start:stop], ids[start:stop] = rows, named
        start = stop
    vectors.flush()
    _, images = np.unique(stored.images(ids), axis=0, return_inverse=True)
    np.save(data / "ids.npy", ids)
    np.save(data / "images.npy", images.ravel())
    truth = exact_images(vectors, images.ravel(), encoder.embeddings, CANDIDATES)
    np.save(data / "truth.npy", truth)


def compare(
    work: Path,
    data: Path,
    folder: Path,
    surroundings: Mapping[str, str],
    asked: tuple[object, ...],
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the figures of all engines, and why some have none."""
    columns: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    peers_alone = {name: text for name, text in surroundings.items() if name != "PYTHONPATH"}
    for name, peer in PEERS.items():
        own = data / peer.module
        shutil.rmtree(own, ignore_errors=True)
        try:
            python = environment(work / "environments" / peer.module, peer.requirements)
            built = engine(python, peer.module, peers_alone, "build", data, own)
            columns[name] = built | engine(
                python, peer.module, peers_alone, "search", data, own, *asked
            )
        except (NotInstalledError, FailedError) as error:
            skipped[name] = str(error)
    python = Path(sys.executable)
    built = engine(python, "ours", surroundings, "build", data, folder)
    columns[OURS] = built | engine(python, "ours", surroundings, "search", data, folder)
    columns[RERANKED] = engine(python, "reranked", surroundings, data, folder)
    return columns, skipped


def engine(
    python: Path, module: str, surroundings: Mapping[str, str], *arguments: object
) -> dict[str, Any]:
    """Run an engine's module in its environment; return the figures that it prints.

    Raises
    ------
    FailedError
        If it ends with an error, or takes longer than an hour.
    """
    command = [str(python), "-m", f"bench_support.peers.{module}", *map(str, arguments)]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=SCRIPTS,
            env=surroundings, timeout=LONGEST,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"it took longer than {LONGEST / 60:.0f} minutes") from error
    if done.returncode:
        raise FailedError(last_line(done.stderr))
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
