"""Random regions of dogs and cats, phrases about them, and matchers, for the tests of matching."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from retrieval_grounding.core.phrases import Phrases
from retrieval_grounding.core.region_table import RegionTable
from retrieval_grounding.matching.config import MatcherConfig
from retrieval_grounding.matching.dataset import Examples
from retrieval_grounding.matching.networks import make_model
from retrieval_grounding.matching.pseudo.mirror import mirror_phrase
from retrieval_grounding.matching.trained import TrainedMatcher
from retrieval_grounding.models.encoder import Fingerprint

ENCODER = Fingerprint("random", "weights", "none")
DIMENSION = 32
NAMES = ["dog", "cat", "whole image"]
SIDE = 400


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def random_table(counts: Sequence[int], seed: int) -> RegionTable:
    """Regions of dogs and cats, whose embeddings distinguish the two and nothing more."""
    random = np.random.default_rng(seed)
    label_embeddings = unit(random.normal(size=(3, DIMENSION)))
    boxes, labels = [], []
    for count in counts:
        corners = random.uniform(0, 300, (count, 2))
        inside = np.concatenate([corners, corners + random.uniform(20, 100, (count, 2))], axis=1)
        boxes.append(np.concatenate([[[0, 0, SIDE, SIDE]], inside]))
        labels.append(np.concatenate([[2], random.integers(0, 2, count)]))
    label = np.concatenate(labels)
    noise = 0.1 * random.normal(size=(len(label), DIMENSION))
    return RegionTable(
        embeddings=unit(label_embeddings[label] + noise).astype(np.float16),
        boxes=np.concatenate(boxes).astype(np.float32),
        scores=np.full(len(label), 0.9, np.float32),
        labels=label,
        colors=random.integers(0, 255, (len(label), 11)).astype(np.uint8),
        offsets=np.cumsum([0, *(count + 1 for count in counts)]),
        label_names=NAMES,
        label_embeddings=label_embeddings * np.array([[1], [1], [0]], np.float32),
    )


def left_and_right(table: RegionTable) -> Examples:
    """Phrases such as "the left dog", for images that have several dogs or cats."""
    expressions = []
    for image in range(len(table.offsets) - 1):
        rows = np.arange(table.image(image).start, table.image(image).stop)
        for code in (0, 1):
            same = rows[table.labels[rows] == code]
            if len(same) > 1:
                centers = table.boxes[same, 0] + table.boxes[same, 2]
                expressions.append((image, f"the left {NAMES[code]}", same[centers.argmin()]))
                expressions.append((image, f"{NAMES[code]} on the right", same[centers.argmax()]))
    mirrored = [mirror_phrase(phrase) for _, phrase, _ in expressions]
    texts = sorted({*(phrase for _, phrase, _ in expressions), *mirrored})
    embeddings = [table.label_embeddings[0 if "dog" in text else 1] for text in texts]
    return Examples(
        Phrases(texts, np.array(embeddings, np.float32)),
        np.array([texts.index(phrase) for _, phrase, _ in expressions]),
        np.array([texts.index(phrase) for phrase in mirrored]),
        np.array([image for image, _, _ in expressions]),
        table.boxes[np.array([row for _, _, row in expressions], np.int64)] / np.float32(SIDE),
    )


def hold_out(examples: Examples) -> tuple[Examples, Examples]:
    """Examples about four fifths of the images, and about the others."""
    images = np.unique(examples.image)
    count = round(0.2 * len(images))
    chosen = np.random.default_rng(0).choice(images, count, replace=False)
    held_out = np.isin(examples.image, chosen)
    return examples.take(~held_out), examples.take(held_out)


def untrained(kind: str = "residual", seed: int = 0, dimension: int = DIMENSION) -> TrainedMatcher:
    """A matcher with random weights, whose residual is not zero."""
    torch.manual_seed(seed)
    config = MatcherConfig(kind, dimension, 3, width=48)
    model = make_model(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return TrainedMatcher(model, config, ["left", "the", "dog"], ENCODER)


def random_phrases(count: int, seed: int = 0) -> Phrases:
    random = np.random.default_rng(seed)
    texts = [" ".join(words) for words in itertools.product(["the", "a"], ["left", "cat", "x"])]
    return Phrases(texts[:count], unit(random.normal(size=(count, DIMENSION))))


class TableStore:
    """Images of a table in the place of a region store; image i has the key (0, i)."""

    def __init__(self, table: RegionTable) -> None:
        self.table = table
        self.keys = [(0, image) for image in range(len(table.offsets) - 1)]

    def bytes_of(self, keys: Sequence[tuple[int, int]]) -> int:
        return 100 * len(keys)

    def gather(self, keys: Sequence[tuple[int, int]]) -> RegionTable:
        images = np.array([image for _, image in keys])
        rows = self.table.rows(images)
        counts = np.diff(self.table.offsets)[images]
        return RegionTable(
            embeddings=self.table.embeddings[rows],
            boxes=self.table.boxes[rows],
            scores=self.table.scores[rows],
            labels=self.table.labels[rows],
            colors=self.table.colors[rows],
            offsets=np.cumsum([0, *counts]),
            label_names=self.table.label_names,
            label_embeddings=self.table.label_embeddings,
        )


class LabelEncoder:
    """Embeds phrases of `left_and_right` as their class names."""

    fingerprint = ENCODER
    dimension = DIMENSION

    def __init__(self, table: RegionTable) -> None:
        self._label_embeddings = table.label_embeddings

    def encode_phrases(self, phrases: Sequence[str]) -> np.ndarray:
        rows = [self._label_embeddings[0 if "dog" in phrase else 1] for phrase in phrases]
        return np.array(rows, np.float32)
