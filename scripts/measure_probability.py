"""Measure probabilities on what searches find: ECE, and what a minimum keeps, by gallery size.

Searches for phrases about half of the held-out photographs, those that calibrate no matcher, in
galleries of 1 to all photographs: with the photograph that the phrase describes, and without any
that may show the same. An index is built over the photographs once and kept in the work folder.

    python scripts/measure_probability.py --data ../shared --work /tmp/probability
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from nano.probabilities import calibrate_on_photographs, held_out_statements
from rich.console import Console
from rich.table import Table

import retrieval_grounding as rg
from retrieval_grounding.core.types import RowKey
from retrieval_grounding.evaluation.metrics import expected_calibration_error
from retrieval_grounding.matching import checks
from retrieval_grounding.matching.calibrate import gallery_queries
from retrieval_grounding.matching.galleries import GalleryHits, gallery_sizes, search_galleries
from retrieval_grounding.matching.matcher import CosineMatcher, Matcher
from retrieval_grounding.matching.relevance import SHOWN, UNKNOWN
from retrieval_grounding.matching.statements import make_examples
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.region_store import RegionStore

TRAINING_SEED = 0
MEASURING_SEED = 1


def indexed_photographs(index: rg.Index) -> dict[RowKey, str]:
    """Return the name of the photograph at each key."""
    return {(image.shard, image.row): Path(image.path).name for image in index.images()}


def first_probabilities(matcher: Matcher, hits: GalleryHits) -> np.ndarray:
    """Return the probabilities of the first hit of each search, (g, 2): of image and box."""
    found = []
    for scores, images in zip(hits.scores, hits.images.tolist(), strict=True):
        own = checks.probabilities(matcher, scores[np.isfinite(scores)], images)
        if own is None:
            raise SystemExit(f"{matcher.name} is not calibrated")
        found.append((own.image[0], own.box[0]))
    return np.array(found)


def measure(matcher: Matcher, hits: GalleryHits, minimum: float) -> dict[str, dict[str, float]]:
    """Return the figures of each size of gallery."""
    image, box = first_probabilities(matcher, hits).T
    known = hits.shows[:, 0] != UNKNOWN
    right = hits.shows[:, 0] == SHOWN
    # Without an image that shows it, no box is right; in an image that does, people drew some.
    located = (known & ~right) | (hits.box[:, 0] != UNKNOWN)
    right_box = right & (hits.box[:, 0] == SHOWN)
    magnitude = np.round(np.log10(hits.images)).astype(int)
    rows = {}
    for power in np.unique(magnitude).tolist():
        own = magnitude == power
        judged, boxed = own & known, own & located
        present, absent = judged & hits.own_in & right, own & ~hits.own_in
        rows[f"10^{power}"] = {
            "searches": int(judged.sum()),
            "first hit right": float(right[judged & hits.own_in].mean()),
            "ECE image": expected_calibration_error(image[judged], right[judged]),
            "ECE box": expected_calibration_error(box[boxed], right_box[boxed]),
            "right kept": float((image[present] >= minimum).mean()),
            "absent kept": float((image[absent] >= minimum).mean()),
        }
    return rows


def print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print the figures of a matcher."""
    table = Table(title=title, title_justify="left")
    for column in ("images", *next(iter(rows.values()))):
        table.add_column(column)
    for name, row in rows.items():
        cells = [
            f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()
        ]
        table.add_row(name, *cells)
    Console(width=120).print(table)


def main() -> None:
    """Print a table for cosine and the index's matcher, and JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--work", type=Path, required=True, help="folder for the index")
    parser.add_argument("--detector", default="nano")
    parser.add_argument("--photos", type=int, help="use only so many photographs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    paths = sorted((options.data / "train_photos").glob("*.webp"))[: options.photos]
    index = rg.build(
        paths, options.work, detector=options.detector, clip="nano", device=options.device
    )
    store, names = RegionStore(Catalog(index.directory)), indexed_photographs(index)
    cosine = CosineMatcher(
        calibrate_on_photographs(
            CosineMatcher(), store, names, options.data, index.encoder, TRAINING_SEED
        )
    )
    statements, keys, descriptions = held_out_statements(
        names, options.data, TRAINING_SEED, "measure"
    )
    examples = make_examples(statements, keys, index.encoder)
    queries = gallery_queries(store, keys, examples, descriptions, 0.0, MEASURING_SEED)
    figures = {}
    for matcher in (cosine, index.matcher):
        hits = search_galleries(
            matcher, store, keys, queries, gallery_sizes(len(keys)), MEASURING_SEED
        )
        figures[matcher.name] = measure(matcher, hits, rg.MIN_PROBABILITY)
        print_table(f"{matcher.name}, minimum {rg.MIN_PROBABILITY}", figures[matcher.name])
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
