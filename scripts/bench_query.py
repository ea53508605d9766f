#!/usr/bin/env python3
"""Time queries of real index folders with 1e4 to 1e6 regions, beside bare FAISS and brute force.

    python scripts/bench_query.py --work /tmp/bench        # 10,000, 100,000, 1,000,000 regions
    python scripts/bench_query.py --work /tmp/bench --regions 10000000
    python scripts/bench_query.py --work /tmp/bench --regions 1000000 --reuse  # queries only

The photographs in ../shared (or, without them, those of the demo) are embedded once. Each synthetic
image has the boxes and labels of a real one, and its regions' embeddings moved by noise that has
the covariance of the real ones, about as far from each other as real neighbors are. Phrases are
expressions of people where ../shared has them, else pseudo-queries; encoding them is not timed.
All ratios are of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_support.growing import grow_index, seed_index
from bench_support.peers.protocol import peak_mb
from bench_support.phrases import KnownPhrases, load_phrases
from rich.console import Console
from rich.table import Table

import retrieval_grounding as rg
from retrieval_grounding.core.phrases import Phrases

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 10


def milliseconds(action: Any, arguments: list[Any]) -> np.ndarray:
    """Return how long each call takes, after some to warm up."""
    for argument in arguments[:WARM_UP]:
        action(argument)
    taken = []
    for argument in arguments:
        began = time.perf_counter()
        action(argument)
        taken.append(time.perf_counter() - began)
    return np.array(taken) * 1000


def resident_mb() -> float:
    """Return the resident memory of this process."""
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def forget_pages(folder: Path) -> None:
    """Ask the system to drop an index's files from the page cache."""
    for path in folder.rglob("*"):
        if path.is_file() and hasattr(os, "posix_fadvise"):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_opening(folder: Path, phrases: Path) -> dict[str, float]:
    """Open an index in this new process, and query two phrases."""
    import faiss  # noqa: F401 - imported before, because only opening is timed
    import torch  # noqa: F401

    encoder = KnownPhrases.load(phrases)
    before = resident_mb()
    began = time.perf_counter()
    index = rg.Index.open(folder, encoder=encoder, device="cpu")
    index._opened.retriever.snapshot()
    opened = time.perf_counter()
    after = resident_mb()
    index.matcher  # noqa: B018 - loaded now
    loaded = time.perf_counter()
    index.query(encoder.texts[0])
    first = time.perf_counter()
    index.query(encoder.texts[1])
    second = time.perf_counter()
    return {
        "open ms": (opened - began) * 1000,
        "open MB": after - before,
        "resident MB": after,
        "first query ms": (first - loaded) * 1000,
        "second query ms": (second - first) * 1000,
    }


def in_child(*arguments: object) -> dict[str, float]:
    """Run a part of this script in a new process; return the JSON that it prints."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_queries(folder: Path, encoder: KnownPhrases, threads: int) -> dict[str, float]:
    """Time queries, bare FAISS and brute force on one index, and compare the answers."""
    index = rg.Index.open(folder, encoder=encoder, device="cpu")
    texts, embeddings = encoder.texts, encoder.embeddings
    warm = milliseconds(index.query, texts)
    state = index._opened.retriever.snapshot()
    assert state.index is not None
    tuning = state.metadata.tuning
    k = 100 * (tuning.refine_factor if tuning else 4)
    rows = [row[None] for row in embeddings]
    bare = milliseconds(lambda row: state.index.search(row, k), rows)
    nearest = milliseconds(lambda row: state.vectors.nearest(row, 100), rows)
    few = texts[:40]
    queries = [Phrases([text], row) for text, row in zip(few, rows, strict=False)]
    passes = [matcher_pass(index, phrase) for phrase in queries]
    matched = milliseconds(lambda run: run(), passes)
    exact = milliseconds(lambda text: index.query(text, exact=True), few)
    found = [index.query(text) for text in texts]
    truth = [index.query(text, exact=True) for text in few]
    recall = np.mean(
        [
            len({hit.image for hit in one} & {hit.image for hit in other}) / max(1, len(other))
            for one, other in zip(found, truth, strict=False)
        ]
    )
    brute = brute_force(state.vectors.shard_vectors, embeddings[:20])
    began = time.perf_counter()
    for start in range(0, len(texts), 32):
        index.query(texts[start : start + 32])
    batched = len(texts) / (time.perf_counter() - began)
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        together = list(pool.map(index.query, texts))
        concurrent = len(texts) / (time.perf_counter() - began)
    assert [[h.image for h in hits] for hits in together] == [[h.image for h in f] for f in found]
    p50 = float(np.median(warm))
    return {
        "p50 ms": p50,
        "p99 ms": float(np.percentile(warm, 99)),
        "bare FAISS ms": float(np.median(bare)),
        "re-scored ms": float(np.median(nearest)),
        "whole network ms": float(np.median(matched)),
        "times bare": p50 / float(np.median(bare)),
        "exact query ms": float(np.median(exact)),
        "NumPy scan ms": brute,
        "faster than scan": brute / p50,
        "recall@10": float(recall),
        "phrases/s, 32 at once": batched,
        f"phrases/s, {threads} threads": concurrent,
    }


def matcher_pass(index: rg.Index, phrase: Phrases) -> Callable[[], object]:
    """Return what scores the regions of a phrase's candidate images once, already gathered."""
    found = index._opened.retriever.candidates(phrase, 100)
    assert found.regions is not None
    return partial(index.matcher.score_pairs, phrase, found.regions, found.phrase_rows)


def brute_force(stored: Any, embeddings: np.ndarray) -> float:
    """Return the median milliseconds of NumPy comparing all regions, held as float32."""
    matrix = np.concatenate([rows for rows, _ in stored.blocks()])

    def scan(phrase: np.ndarray) -> np.ndarray:
        scores = matrix @ phrase
        return np.argpartition(-scores, 400)[:400]

    return float(np.median(milliseconds(scan, list(embeddings))))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the indexes")
    parser.add_argument("--regions", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    parser.add_argument("--phrases", type=int, default=200)
    parser.add_argument("--vectors", default="auto", help="auto, flat, ivf or hnsw")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--photos", type=int, default=250, help="photographs to embed at most")
    parser.add_argument(
        "--reuse", action="store_true", help="use the vector index and image passes of before"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--opening", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--reindexing", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.opening:
        print(json.dumps(measure_opening(*options.opening)))
        return
    if options.reindexing:
        print(json.dumps(measure_reindexing(options.reindexing, options.vectors)))
        return
    seed = seed_index(options.work / "seed", ROOT.parent / "shared", options.photos)
    encoder = load_phrases(seed, ROOT.parent / "shared", options.phrases)
    known = options.work / "phrases.npz"
    encoder.save(known)
    columns: dict[str, dict[str, Any]] = {}
    for regions in options.regions:
        folder = options.work / f"index-{regions}"
        grow_index(seed, folder, regions)
        figures: dict[str, Any] = {}
        if not options.reuse:
            figures |= in_child(
                "--work", options.work, "--reindexing", folder, "--vectors", options.vectors
            )
        figures |= measure_queries(folder, encoder, options.threads)
        figures |= in_child("--work", options.work, "--opening", folder, known)
        forget_pages(folder)
        cold = in_child("--work", options.work, "--opening", folder, known)
        figures["open ms, cold disk"] = cold["open ms"]
        figures["first query ms, cold disk"] = cold["first query ms"]
        columns[f"{regions:,}"] = figures
        show(columns)
    if options.json:
        options.json.write_text(json.dumps(columns, indent=2) + "\n", encoding="utf-8")


def measure_reindexing(folder: Path, vectors: str) -> dict[str, Any]:
    """Rebuild the vector index in this process; return the time and memory it took."""
    encoder = KnownPhrases.load(folder.parent / "phrases.npz")
    encoder.fallback = True
    index = rg.Index.open(folder, encoder=encoder, device="cpu")
    began = time.perf_counter()
    facts = index.reindex(vectors, progress=False)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    index.use_matcher(next(entry.name for entry in index.matchers() if entry.in_use))
    prepared = time.perf_counter() - began
    return {
        "kind": facts["kind"],
        "reindex s": seconds,
        "reindex peak MB": peak_mb(),
        "image passes s": prepared,
        "index MB": next(folder.glob("vectors*.faiss")).stat().st_size / 2**20,
        "tuned recall": facts.get("recall") or 1.0,
        "effort": facts.get("effort", 0),
        "re-scored per image": facts.get("regions_rescored_per_image", 0),
    }


def show(columns: dict[str, dict[str, Any]]) -> None:
    """Print one column for each size."""
    table = Table("", *columns)
    for name in dict.fromkeys(name for figures in columns.values() for name in figures):
        cells = [figures.get(name, "") for figures in columns.values()]
        table.add_row(name, *(f"{c:,.3g}" if isinstance(c, float) else str(c) for c in cells))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
