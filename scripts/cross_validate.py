#!/usr/bin/env python3
"""Train matchers on parts of a file of expressions and measure each on the part left out.

Splits are by image, so no photograph is used for both. Prints figures for cosine, the matcher in
use, that matcher fine-tuned, and both kinds trained from scratch, with 95 % intervals by image:

    python scripts/cross_validate.py indexes/refs --refs ../shared/refs/refs.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.model_selection import GroupKFold

import retrieval_grounding as rg
from retrieval_grounding.core.phrases import Phrases
from retrieval_grounding.data.expressions import read_expressions
from retrieval_grounding.data.resolve import resolve_images
from retrieval_grounding.evaluation.metrics import bootstrap_means
from retrieval_grounding.evaluation.predictions import predict
from retrieval_grounding.evaluation.queries import Queries
from retrieval_grounding.matching.fit import fit_matcher
from retrieval_grounding.matching.matcher import CosineMatcher, Matcher
from retrieval_grounding.matching.options import TrainingOptions
from retrieval_grounding.matching.statements import Statement
from retrieval_grounding.matching.trained import TrainedMatcher
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.region_store import RegionStore


def main() -> None:
    """Print the table, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--refs", required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    index = rg.Index.open(options.index, device=options.device)
    catalog = Catalog(options.index)
    store = RegionStore(catalog)
    resolved = resolve_images(read_expressions(options.refs), catalog.images())
    keys = list(dict.fromkeys((image.shard, image.row) for _, image in resolved.pairs))
    images = np.array([keys.index((image.shard, image.row)) for _, image in resolved.pairs])
    texts = [expression.phrase for expression, _ in resolved.pairs]
    embeddings = index.encoder.encode_phrases(texts)
    truth = np.array([expression.box for expression, _ in resolved.pairs], np.float64)
    statements = []
    for expression, image in resolved.pairs:
        sides = np.tile([image.width, image.height], 2)
        box = tuple((np.array(expression.box) / sides).tolist())
        statements.append(Statement((image.shard, image.row), expression.phrase, box))

    overlaps: dict[str, np.ndarray] = {}
    for fold, (train, test) in enumerate(GroupKFold(options.folds).split(texts, groups=images)):
        training = [statements[row] for row in train]
        matchers: dict[str, Matcher] = {"cosine": CosineMatcher()}

        def fit(
            training: list[Statement] = training, fold: int = fold, **more: object
        ) -> TrainedMatcher:
            chosen = TrainingOptions(
                epochs=options.epochs, batch_size=64, seed=fold, progress=False
            )
            return fit_matcher(store, index.encoder, training, options=chosen, **more).matcher

        if isinstance(index.matcher, TrainedMatcher):
            matchers["in use"] = index.matcher
            matchers["fine-tuned"] = fit(start=index.matcher)
        matchers["residual"], matchers["concat"] = fit(), fit(kind="concat")
        test_images, image_index = np.unique(images[test], return_inverse=True)
        queries = Queries(
            phrases=Phrases([texts[row] for row in test], embeddings[test]),
            truth=truth[test],
            images=image_index,
            keys=[keys[number] for number in test_images],
        )
        for name, found in predict(queries, matchers, store)[1].items():
            overlaps.setdefault(name, np.zeros(len(texts), np.float32))[test] = found.iou
        print(f"fold {fold + 1} of {options.folds}", flush=True)

    names = list(overlaps)
    columns = [overlaps[name] for name in names]
    columns += [overlaps[name] - overlaps["cosine"] for name in names]
    columns += [(overlaps[name] >= 0.5).astype(float) for name in names]
    estimates = bootstrap_means(np.stack(columns, axis=1), images)
    table = Table(title=f"{options.folds} folds by image, {len(texts)} expressions")
    for column in ("", "mean IoU", "gain over cosine", "Acc@0.5"):
        table.add_column(column)
    figures = {}
    for place, name in enumerate(names):
        row = estimates[place :: len(names)]
        table.add_row(name, *(f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in row))
        figures[name] = {
            label: [e.value, e.low, e.high]
            for label, e in zip(("mean_iou", "gain", "acc@0.5"), row, strict=True)
        }
    Console(width=120).print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
