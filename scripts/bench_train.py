#!/usr/bin/env python3
"""Time an epoch of matcher training on synthetic cached features, and the bare products in it.

    python scripts/bench_train.py     # 80,000 expressions, 20 regions per image, 512 dimensions

On a GPU, the first epoch includes reading the phrases and recording the graph of a step; a steady
epoch is the difference between two epochs and one.

The "matrix products" are those alone, with the shapes that the network multiplies, forward and
backward: the ratio is the overhead around them.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from retrieval_grounding.core.colors import COLORS
from retrieval_grounding.core.phrases import Phrases
from retrieval_grounding.core.region_table import RegionTable
from retrieval_grounding.matching.batch import RegionTensors
from retrieval_grounding.matching.config import MatcherConfig
from retrieval_grounding.matching.dataset import Examples, batches_by_image
from retrieval_grounding.matching.geometry import POSITION_FEATURES
from retrieval_grounding.matching.networks import make_model
from retrieval_grounding.matching.options import TrainingOptions
from retrieval_grounding.matching.trainer import train_model

EXPRESSIONS_PER_IMAGE = 3.8  # as in RefCOCOg


def unit(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Return random unit-length vectors."""
    values = random.normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def make_data(expressions: int, regions: int, dimension: int) -> tuple[RegionTable, Examples]:
    """Return random regions and examples."""
    random = np.random.default_rng(0)
    images = round(expressions / EXPRESSIONS_PER_IMAGE)
    count = images * regions
    corners = random.uniform(0, 400, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(20, 200, (count, 2))], axis=1)
    boxes[::regions] = [0, 0, 640, 640]
    names = [str(number) for number in range(80)]
    table = RegionTable(
        embeddings=np.concatenate(
            [unit(random, len(part), dimension).astype(np.float16)
             for part in np.array_split(np.arange(count), 50)]
        ),
        boxes=boxes.astype(np.float32),
        scores=random.uniform(0.1, 1, count).astype(np.float32),
        labels=random.integers(0, 80, count),
        colors=random.integers(0, 255, (count, len(COLORS))).astype(np.uint8),
        offsets=np.arange(0, count + 1, regions),
        label_names=names,
        label_embeddings=unit(random, 80, dimension),
    )  # fmt: skip
    texts = [
        f"{place} {name} {n}" for place in ("left", "right") for name in names for n in range(250)
    ]
    phrase = random.integers(0, len(texts), expressions)
    image = random.integers(0, images, expressions)
    target = image * regions + random.integers(1, regions, expressions)
    phrases = Phrases(texts, unit(random, len(texts), dimension))
    boxes = (table.boxes[target] / 640).astype(np.float32)
    return table, Examples(phrases, phrase, phrase, image, boxes)


def time_products(
    expressions: int, regions: int, dimension: int, width: int, batch_size: int
) -> float:
    """Return the seconds of an epoch's matrix products, each once forward and twice backward."""
    images = round(batch_size / EXPRESSIONS_PER_IMAGE)
    alone, paired = images * regions, 2 * batch_size * regions
    features = POSITION_FEATURES + len(COLORS)
    shapes = [
        (alone, 2 * dimension, width), (alone, dimension, width), (alone, features, width),
        (alone, width, width), (paired, width, 3 * width), (paired, width, width),
        (paired, width, 2 * width), (paired, 2 * width, width),
        (batch_size, dimension + width, 2 * width), (batch_size, 2 * width, 4 * width),
    ]  # fmt: skip
    pairs = [(torch.rand(m, k), torch.rand(k, n)) for m, k, n in shapes]
    steps = 12
    began = time.perf_counter()
    for _ in range(steps):
        for left, right in pairs:
            out = left @ right
            out @ right.T
            left.T @ out
    return (time.perf_counter() - began) / steps * expressions / batch_size


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--expressions", type=int, default=80_000)
    parser.add_argument("--regions", type=int, default=20)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table, examples = make_data(options.expressions, options.regions, options.dimension)
    vocabulary = ["left", "right", *map(str, range(250))]
    config = MatcherConfig("residual", options.dimension, len(vocabulary))
    model = make_model(config).to(options.device)
    settings = TrainingOptions(progress=False)
    regions = RegionTensors(table, options.device)
    few = examples.take(np.arange(min(200, len(examples))))

    def train(epochs: int) -> float:
        began = time.perf_counter()
        chosen = replace(settings, epochs=epochs)
        train_model(model, vocabulary, regions, examples, few, chosen)
        return time.perf_counter() - began

    epoch = train(1)
    # On a GPU, the first epoch also reads the phrases and records the graph of a step.
    steady = train(2) - train(1) if options.device != "cpu" else epoch
    batches = batches_by_image(examples, settings.batch_size, np.random.default_rng(0))
    steps = len(list(batches))
    products = time_products(
        options.expressions, options.regions, options.dimension, config.width, settings.batch_size
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {
        "expressions": options.expressions,
        "epoch s": round(epoch, 1),
        "steady epoch s": round(steady, 2),
        "steady ms a step": round(1000 * steady / steps, 2),
        "matrix products s": round(products, 1),
        "ratio": round(epoch / products, 2),
        "peak MB": round(peak),
        "threads": torch.get_num_threads(),
    }
    shown = Table(*figures)
    shown.add_row(*map(str, figures.values()))
    Console().print(shown)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
