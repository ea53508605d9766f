"""Give the file of a matcher its early exit, from an index and phrases about its images.

    python scripts/fit_early_exit.py matcher.safetensors indexes/refs --expressions refs.jsonl

A training does so by itself; this is for weights that came from elsewhere, and to do it again. Each
phrase is searched for in the index, and the head learns which regions of the images found the whole
network prefers. Weights, vocabulary and calibration stay as they are. 12,000 pairs of phrase and
image take a quarter of a minute on a quiet core.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from bench_support.phrases import read_expressions

import retrieval_grounding as rg
from retrieval_grounding.core.phrases import Phrases
from retrieval_grounding.core.region_table import RegionTable
from retrieval_grounding.core.threads import single_thread
from retrieval_grounding.matching.embed import embed_phrases
from retrieval_grounding.matching.fit_early_exit import fit_early_exit
from retrieval_grounding.matching.stored import load_stored
from retrieval_grounding.storage.files import atomic_write_bytes


def searched(
    index: rg.Index, texts: list[str], candidates: int
) -> Iterator[tuple[Phrases, RegionTable]]:
    """Yield each phrase with the images that a search for it looks at."""
    for text in texts:
        phrases = embed_phrases(index.encoder, [text])
        found = index._opened.retriever.candidates(phrases, candidates).regions
        if found is not None:
            yield phrases, found


def main() -> int:
    """Fit the exit and write the file; the exit status is 1 if it loses too many winners."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("matcher", type=Path, help="its file, which is replaced")
    parser.add_argument("index", help="folder of an index with the same encoder")
    parser.add_argument("--expressions", type=Path, required=True, help="JSON lines")
    parser.add_argument("--phrases", type=int, default=160)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write this file instead")
    options = parser.parse_args()
    stored = load_stored(options.matcher, "cpu")
    texts = read_expressions(options.expressions, options.phrases, options.seed)
    with rg.Index.open(options.index, device="cpu") as index, single_thread():
        fit = fit_early_exit(stored.network, searched(index, texts, options.candidates))
    if fit is None or not stored.network.exits_early:
        kept = "" if fit is None else f": it keeps {fit.kept:.2%} of the winners"
        print(f"no early exit is kept{kept}; regions are all scored")
        return 1
    atomic_write_bytes(options.output or options.matcher, stored.as_bytes())
    print(f"{fit.images:,} pairs, {fit.kept:.2%} of the winners kept, {fit.seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
