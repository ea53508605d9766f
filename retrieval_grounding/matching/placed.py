"""Statements of place about things that people have described: "man in red on the left"."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from random import Random

import numpy as np

from ..core.types import RowKey
from ..storage.region_store import RegionStore
from .pseudo.human import placed_phrases
from .pseudo.objects import find_objects
from .statements import Statement

__all__ = ["placed_statements"]


_IMAGES_PER_TABLE = 1000
_WEIGHT = 0.5  # beside what people said themselves


def placed_statements(
    store: RegionStore, statements: Sequence[Statement], seed: int
) -> list[Statement]:
    """Say of things that people have described where they are; see :mod:`.pseudo.human`.

    Parameters
    ----------
    store : RegionStore
        The index's regions, among which are things that nobody described.
    statements : sequence of Statement
        Descriptions; those of an image should cover most of what is to be seen. Only those with a
        box that people wrote are used.
    seed : int
        Seed of the draws.
    """
    by_image: defaultdict[RowKey, list[Statement]] = defaultdict(list)
    for statement in statements:
        if statement.box is not None and not statement.generated:
            by_image[statement.key].append(statement)
    keys = list(by_image)
    found = []
    for start in range(0, len(keys), _IMAGES_PER_TABLE):
        part = keys[start : start + _IMAGES_PER_TABLE]
        table = store.gather(part)
        for image, key in enumerate(part):
            described = by_image[key]
            phrases = [statement.phrase for statement in described]
            boxes = np.array([statement.box for statement in described], np.float32)
            rng = Random(zlib.crc32(boxes.tobytes(), seed & 0xFFFFFFFF))
            for placed in placed_phrases(phrases, boxes, find_objects(table, image), rng):
                about = described[placed.row]
                weight = _WEIGHT * about.weight
                found.append(Statement(key, placed.phrase, about.box, weight, generated=True))
    return found
