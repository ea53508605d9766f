"""Phrases that people boxed (Flickr30k Entities), and which photographs are kept from training."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .pairs import held_out_photos
from .texts import Caption

Box = tuple[float, float, float, float]

REFCOCO_PHOTOS = frozenset(
    f"{number:012d}.webp" for number in (656, 716, 735, 491666, 491707, 491727, 491733, 491739)
)
"""Training photographs that belong to the val and test splits of RefCOCO, RefCOCO+ or RefCOCOg."""


@dataclass(frozen=True)
class BoxedPhrase:
    """A phrase with its boxes, as fractions of the photograph's sides.

    Parameters
    ----------
    text : str
        Lower case.
    box : tuple of 4 float
        Corners of the box around everything that the phrase means.
    boxes : float32 array of shape (n, 4)
        Corners of the single things.
    joined : bool
        Whether a rule joined it from neighbors ("a little girl in a pink dress").
    """

    text: str
    box: Box
    boxes: np.ndarray
    joined: bool


def read_entities(data: Path, split: str) -> dict[str, list[BoxedPhrase]]:
    """Return the phrases of each photograph of ``"train"``, ``"val"`` or ``"test"``."""
    found: dict[str, list[BoxedPhrase]] = defaultdict(list)
    for kind in ("regions", "joined"):
        with gzip.open(data / "entities" / f"{kind}_{split}.jsonl.gz", "rt") as lines:
            for record in map(json.loads, lines):
                sides = np.tile([record["width"], record["height"]], 2)
                corners = _corners([record["bbox_xywh"]]) / sides
                single = record.get("boxes_xywh") or [record["bbox_xywh"]]
                found[record["image"]].append(
                    BoxedPhrase(
                        " ".join(record["expression"].lower().split()),
                        tuple(corners[0].tolist()),
                        (_corners(single) / sides).astype(np.float32),
                        kind == "joined",
                    )
                )
    return dict(found)


def read_human_boxes(data: Path) -> dict[str, np.ndarray]:
    """Return the distinct single boxes of each photograph of all splits, float32 (n, 4)."""
    boxes: dict[str, list[np.ndarray]] = defaultdict(list)
    for split in ("train", "val", "test"):
        for name, phrases in read_entities(data, split).items():
            for phrase in phrases:
                if not phrase.joined:
                    boxes[name] += [phrase.boxes, np.array([phrase.box], np.float32)]
    return {
        name: np.unique(np.concatenate(parts).round(4).clip(0, 1), axis=0)
        for name, parts in boxes.items()
    }


def photo_paths(data: Path) -> list[Path]:
    """Return the training photographs, unsquashed where there is such a copy, sorted by name."""
    unsquashed = {path.name: path for path in (data / "flickr8k_320" / "images").iterdir()}
    paths = sorted((data / "train_photos").glob("*.webp"))
    return [unsquashed.get(path.name, path) for path in paths]


def left_out_photos(data: Path, captions: list[Caption], seed: int) -> frozenset[str]:
    """Return the photographs that nothing may be trained on.

    They are the thousand that `held_out_photos` chooses, Entities val and test, and the eight of
    RefCOCO/+/g.
    """
    development: Iterable[str] = (*read_entities(data, "val"), *read_entities(data, "test"))
    return held_out_photos(captions, seed) | REFCOCO_PHOTOS | frozenset(development)


def _corners(boxes: list[list[float]]) -> np.ndarray:
    """Turn x, y, width, height into corners."""
    values = np.array(boxes, np.float64)
    values[:, 2:] += values[:, :2]
    return values
