"""Whether the early exit changes answers: compare queries with those of the whole network.

    python scripts/measure_early_exit.py indexes/photos --expressions refs.jsonl --phrases 200

The phrases are expressions of people (JSON lines with "expression"). For each, the hits of a query
are compared with those of the same query with ``exact=True``: which images are among the first ten,
in which order and with which box, and how far the scores of the same image are apart. An index of
at most 100,000 regions is searched exactly in both cases, so that nothing else differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from bench_support.phrases import read_expressions

import retrieval_grounding as rg

WORST = 0.002


def main() -> int:
    """Print the comparison; the exit status is 1 if it is not as promised."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("index", help="folder of an index whose encoder can be loaded by name")
    parser.add_argument("--expressions", type=Path, required=True)
    parser.add_argument("--phrases", type=int, default=100)
    parser.add_argument("--skip", type=int, default=0, help="leave out the first ones drawn")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    index = rg.Index.open(options.index, device="cpu")
    if not getattr(index.matcher, "exits_early", False):
        sys.exit("the matcher of this index has no early exit")
    drawn = read_expressions(options.expressions, options.skip + options.phrases, options.seed)
    images, ranks, boxes, gaps = [], [], [], []
    for phrase in drawn[options.skip :]:
        quick, whole = index.query(phrase), index.query(phrase, exact=True)
        scores = {hit.image: hit.score for hit in quick}
        images.append({hit.image for hit in quick} == {hit.image for hit in whole})
        same = [one.image == other.image for one, other in zip(quick, whole, strict=True)]
        ranks.append(np.mean(same))
        boxes.append(
            np.mean(
                [
                    one.image == other.image and one.box == other.box
                    for one, other in zip(quick, whole, strict=True)
                ]
            )
        )
        gaps += [abs(scores[hit.image] - hit.score) for hit in whole if hit.image in scores]
    figures = {
        "phrases": len(images),
        "images": len(index),
        "same ten images": float(np.mean(images)),
        "same image at the same rank": float(np.mean(ranks)),
        "same image and box at the same rank": float(np.mean(boxes)),
        "score, median difference": float(np.median(gaps)),
        "score, largest difference": float(np.max(gaps)),
    }
    for name, value in figures.items():
        print(f"{name:36} {value:.6g}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if all(images) and max(gaps) <= WORST else 1


if __name__ == "__main__":
    sys.exit(main())
