"""Ask an index what a person might ask, and look whether the photographs found show it.

    python scripts/measure_phrases.py indexes/coco

The index holds the photographs of ``shared/coco_val128``; `everyday_phrases.tsv` has phrases and
the numbers of the photographs that show them, chosen by looking at the photographs alone, and
phrases for what none shows. Each simpler matcher is a row: is the first hit right, is one of five?
Where a matcher has probabilities, how many right first hits and how many absent things pass the
default minimum?
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import retrieval_grounding as rg

PHRASES = Path(__file__).with_name("everyday_phrases.tsv")
SIMPLE = ("cosine", "cosine+label")
TOP = 5


def read_phrases(path: Path) -> Iterator[tuple[str, frozenset[int]]]:
    """Yield phrases and the numbers of the photographs that show them."""
    with path.open(encoding="utf-8") as lines:
        for phrase, numbers in csv.reader(
            (line for line in lines if not line.startswith("#")), delimiter="\t"
        ):
            yield phrase, frozenset(map(int, numbers.split()))


def measure(
    index: rg.Index, matcher: str | None, phrases: dict[str, frozenset[int]], wrong: list[str]
) -> dict[str, float | None]:
    """Return a matcher's figures, and add what it gets wrong to `wrong`."""
    answers = index.query(list(phrases), top=TOP, matcher=matcher)
    first, five, right_kept, absent_kept = [], [], [], []
    for (phrase, shown), hits in zip(phrases.items(), answers, strict=True):
        right = [int(Path(hit.image).stem) in shown for hit in hits]
        probability = hits[0].image_probability
        passes = None if probability is None else probability >= rg.MIN_PROBABILITY
        if shown:
            first.append(right[0])
            five.append(any(right))
            if right[0]:
                right_kept.append(passes)
            else:
                wrong.append(f"{phrase}: {Path(hits[0].image).name}, {hits[0].label}")
        else:
            absent_kept.append(passes)
    known = None not in right_kept + absent_kept
    return {
        "first hit right": sum(first),
        f"one of {TOP} right": sum(five),
        "right first hits kept": float(np.mean(right_kept)) if known else None,
        "absent kept": float(np.mean(absent_kept)) if known else None,
    }


def main() -> None:
    """Print a table with a row for each matcher."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("index", type=Path, help="folder of the index")
    parser.add_argument("--phrases", type=Path, default=PHRASES, help="tab-separated")
    parser.add_argument("--wrong", action="store_true", help="list wrong first hits")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    phrases = dict(read_phrases(options.phrases))
    with rg.Index.open(options.index) as index:
        wrong: dict[str, list[str]] = {name: [] for name in (*SIMPLE, index.matcher.name)}
        figures = {
            name: measure(index, name if name in SIMPLE else None, phrases, wrong[name])
            for name in wrong
        }
    present = sum(map(bool, phrases.values()))
    table = Table(
        title=f"{present} phrases, {len(phrases) - present} absent; minimum {rg.MIN_PROBABILITY}",
        title_justify="left",
    )
    for column in ("", *next(iter(figures.values()))):
        table.add_column(column)
    for name, row in figures.items():
        cells = (
            "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
            for value in row.values()
        )
        table.add_row(name, *cells)
    console = Console(width=100)
    console.print(table)
    if options.wrong:
        for name, lines in wrong.items():
            console.print(f"{name}: {'; '.join(lines)}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
