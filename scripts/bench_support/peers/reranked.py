"""retrieval_grounding's whole query: candidate images, then re-ranking of all their regions.

Recall is measured against the same query with ``exact=True``, because no other engine ranks alike.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import retrieval_grounding as rg
from bench_support.peers.ours import PHRASES
from bench_support.peers.protocol import ROUNDS, SHOWN, WARM_UP, milliseconds, peak_mb
from bench_support.phrases import KnownPhrases

COMPARED = 40  # an exact query reads everything


def main() -> None:
    """Print a JSON object of figures; takes the same arguments as the other engines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    encoder = KnownPhrases.load(options.data / PHRASES)
    telling = np.arange(1, len(encoder.texts), 2)
    began = time.perf_counter()
    index = rg.Index.open(options.folder, encoder=encoder, device="cpu")
    index._opened.retriever.snapshot()
    index.matcher  # noqa: B018 - loaded now
    opened = time.perf_counter() - began

    def images(number: int, exact: bool = False) -> list[str]:
        hits = index.query(encoder.texts[number], top=SHOWN, exact=exact)
        return [str(hit.image) for hit in hits]

    first = milliseconds(images, telling[:1])[0]
    milliseconds(images, telling[:WARM_UP])
    taken = np.concatenate([milliseconds(images, telling) for _ in range(ROUNDS)])
    shares = []
    for number in telling[:COMPARED]:
        wanted = set(images(number, exact=True))
        shares.append(len(wanted.intersection(images(number))) / len(wanted))
    figures = {
        "open s": opened,
        "first search ms": float(first),
        "p50 ms": float(np.median(taken)),
        "p99 ms": float(np.percentile(taken, 99)),
        "recall@10": float(np.mean(shares)),
        "search peak MB": peak_mb(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
