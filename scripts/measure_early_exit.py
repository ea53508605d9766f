"""Whether the early exit changes answers: compare queries with those of the whole network.

    python scripts/measure_early_exit.py indexes/photos --expressions refs.jsonl --phrases 200

The phrases are expressions of people (JSON lines with "expression"). For each, the hits of a query
are compared with those of the same query with ``exact=True``: which images are among the first ten,
in which order and with which box, and how far the scores of the same image are apart. Each is asked
without a filter, only for regions with the label of its first hit that is not a whole image, and
only for small regions. An index of at most 100,000 regions is searched exactly in all cases, so
that nothing else differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from bench_support.phrases import read_expressions
from rich.console import Console
from rich.table import Table

import retrieval_grounding as rg
from retrieval_grounding.core.regions import WHOLE_IMAGE

WORST = 0.002
SMALL = 0.2


def label_of_first_hit(index: rg.Index, phrase: str) -> rg.Query:
    """Ask only for regions with the label of the first hit that is not a whole image."""
    labels = [hit.label for hit in index.query(phrase, exact=True) if hit.label != WHOLE_IMAGE]
    return rg.Query(phrase, filters=rg.Filters(labels=tuple(labels[:1])))


FILTERS: dict[str, Callable[[rg.Index, str], str | rg.Query]] = {
    "without": lambda index, phrase: phrase,
    "label": label_of_first_hit,
    "size": lambda index, phrase: rg.Query(phrase, filters=rg.Filters(max_size=SMALL)),
}


def compare(index: rg.Index, queries: Sequence[str | rg.Query]) -> dict[str, float]:
    """Return how far the answers agree with those of the whole network."""
    images, ranks, boxes, gaps = [], [], [], []
    for query in queries:
        quick, exact = index.query(query), index.query(query, exact=True)
        if not exact:
            continue
        scores = {hit.image: hit.score for hit in quick}
        images.append({hit.image for hit in quick} == {hit.image for hit in exact})
        pairs = list(zip(quick, exact, strict=True))
        ranks.append(np.mean([one.image == other.image for one, other in pairs]))
        boxes.append(
            np.mean([(one.image, one.box) == (other.image, other.box) for one, other in pairs])
        )
        gaps += [abs(scores[hit.image] - hit.score) for hit in exact if hit.image in scores]
    return {
        "phrases": len(images),
        "same ten images": float(np.mean(images)),
        "same image at the same rank": float(np.mean(ranks)),
        "same image and box at the same rank": float(np.mean(boxes)),
        "score, median difference": float(np.median(gaps)),
        "score, largest difference": float(np.max(gaps)),
    }


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
    figures = {
        name: compare(index, [make(index, phrase) for phrase in drawn[options.skip :]])
        for name, make in FILTERS.items()
    }
    table = Table(title=f"{len(index)} images, with and without filters", title_justify="left")
    for column in ("", *figures):
        table.add_column(column)
    for name in figures["without"]:
        table.add_row(name, *(f"{own[name]:.6g}" for own in figures.values()))
    Console(width=100).print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    plain = figures["without"]
    as_promised = plain["same ten images"] == 1 and plain["score, largest difference"] <= WORST
    return 0 if as_promised else 1


if __name__ == "__main__":
    sys.exit(main())
