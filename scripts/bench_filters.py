#!/usr/bin/env python3
"""Time and recall of queries with one filter: of 0.01 % to 100 % of the images, or of regions.

    python scripts/bench_filters.py --work /tmp/bench --regions 1000000

The index is the one of ``bench_query.py``. Each image gets a random number as metadata, and a
filter is a condition on it; two more keep the regions of a label, and small ones. Each phrase is
asked with and without the filter, in turns, so that both see the same machine. Recall is the share
of the exact search's hits that are found, with the same filter; "first" is the first query with a
filter, which has to be worked out. The overhead is the median of the CPU time that each phrase took
more, which other work on the machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_support.growing import grow_index, seed_index
from bench_support.phrases import KnownPhrases, load_phrases
from rich.console import Console
from rich.table import Table

import retrieval_grounding as rg
from retrieval_grounding.core.phrases import Phrases
from retrieval_grounding.search.pool import PoolRequest
from retrieval_grounding.storage.catalog import Catalog

ROOT = Path(__file__).resolve().parents[1]
SHARES = (0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.9, 1.0)
PARTS = 10_000_000
CANDIDATES = 100
SMALL = 0.1


def number_images(folder: Path) -> None:
    """Give each image a random number below `PARTS`, once."""
    catalog = Catalog(folder, writable=True)
    if "part" not in catalog.columns():
        paths = [image.path for image in catalog.images()]
        parts = np.random.default_rng(0).permutation(len(paths)) * (PARTS // len(paths))
        rows = zip(paths, parts.tolist(), strict=True)
        catalog.set_metadata({"part": "integer"}, [(path, "part", part) for path, part in rows])
    catalog.close()


def taken(action: Callable[[], Any]) -> tuple[float, float]:
    """Return the milliseconds that a call takes by the clock, and of the processor's time."""
    began, used = time.perf_counter(), time.process_time()
    action()
    return (time.perf_counter() - began) * 1000, (time.process_time() - used) * 1000


def candidate_recall(index: rg.Index, encoder: KnownPhrases, filters: rg.Filters) -> float:
    """Return the mean share of the exact candidate images that are found."""
    retriever, shares = index._opened.retriever, []
    for text, row in zip(encoder.texts[:40], encoder.embeddings, strict=False):
        phrase = Phrases([text], row[None])
        none = Phrases([], np.zeros((0, len(row)), np.float32))
        found, truth = (
            retriever.pool(PoolRequest(phrase, none, filters, CANDIDATES, exact))
            for exact in (False, True)
        )
        if truth is not None:
            assert found is not None
            shares.append(len(set(found.keys) & set(truth.keys)) / len(truth.keys))
    return float(np.mean(shares))


def measure(index: rg.Index, encoder: KnownPhrases, filters: rg.Filters) -> dict[str, float]:
    """Return the figures of one filter."""
    queries = [rg.Query(text, filters=filters) for text in encoder.texts]
    _, first = taken(lambda: index.query(queries[0]))
    for query in queries[:5]:
        index.query(query)
    plain, filtered = [], []
    for text, query in zip(encoder.texts, queries, strict=True):
        plain.append(taken(lambda text=text: index.query(text)))
        filtered.append(taken(lambda query=query: index.query(query)))
    before, after = np.array(plain), np.array(filtered)
    (plain_ms, plain_cpu), (ms, cpu) = np.median(before, axis=0), np.median(after, axis=0)
    few = queries[:40]
    hits = []
    for query in few:
        truth = {hit.image for hit in index.query(query, exact=True)}
        found = {hit.image for hit in index.query(query)}
        hits.append(len(truth & found) / max(1, len(truth)))
    selected = index._opened.retriever.snapshot().selections.get(filters)
    assert selected is not None
    return {
        "regions left": len(selected.regions),
        "plain p50 ms": float(plain_ms),
        "filtered p50 ms": float(ms),
        "plain p50 CPU ms": float(plain_cpu),
        "filtered p50 CPU ms": float(cpu),
        "overhead": float(np.median(after[:, 1] - before[:, 1]) / plain_cpu),
        "first CPU ms": first,
        "recall of hits@10": float(np.mean(hits)),
        "recall of candidates@100": candidate_recall(index, encoder, filters),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the indexes")
    parser.add_argument("--regions", type=int, default=10**6)
    parser.add_argument("--phrases", type=int, default=200)
    parser.add_argument("--photos", type=int, default=250, help="photographs to embed at most")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--vectors", default="auto", help="auto, flat, ivf or hnsw")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    seed = seed_index(options.work / "seed", ROOT.parent / "shared", options.photos)
    encoder = load_phrases(seed, ROOT.parent / "shared", options.phrases)
    folder = options.work / f"index-{options.regions}"
    grow_index(seed, folder, options.regions)
    number_images(folder)
    encoder.fallback = True
    index = rg.Index.open(folder, encoder=encoder, device="cpu")
    facts = index.info()["vectors"]
    if facts["kind"] is None or options.vectors not in ("auto", facts["kind"]):
        index.reindex(options.vectors, progress=False)
    index.close()
    encoder.fallback = False
    index = rg.Index.open(folder, encoder=encoder, device="cpu")
    for text in encoder.texts[:10]:
        index.query(text)
    chosen = {
        f"{share:.2%}": rg.Filters(where=f"part < {round(share * PARTS)}")
        for share in options.shares
    }
    chosen |= {"persons": rg.Filters(labels=("person",)), "small": rg.Filters(max_size=SMALL)}
    rows = {name: measure(index, encoder, filters) for name, filters in chosen.items()}
    table = Table("left", *next(iter(rows.values())))
    for name, figures in rows.items():
        table.add_row(name, *(f"{value:,.3g}" for value in figures.values()))
    Console(width=140).print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
