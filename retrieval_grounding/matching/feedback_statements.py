"""Thumbs as statements: what a matcher learns from them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..core.feedback import FeedbackEntry
from ..core.groups import is_group
from ..core.regions import pairwise_iou
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from .contrasts import words_said
from .statements import Statement

__all__ = ["feedback_statements"]

_ARTICLES = frozenset(("a", "an", "the"))
_SAME_REGION = 0.5


def feedback_statements(
    catalog: Catalog, store: RegionStore, entries: Iterable[FeedbackEntry], weight: float = 1.0
) -> list[Statement]:
    """Return thumbs about images of an index as statements.

    A thumb up says that the phrase means its box. A thumb down says what its box is not. It becomes
    a statement about what the detector calls that region, of which the phrase is a false variant:
    “car” is true of it, and “a red car” is not. It says nothing to training if the detector found
    no such region, or if the phrase says no more than the label, which is wrong then.

    Parameters
    ----------
    catalog : Catalog
        Of the index.
    store : RegionStore
        Its regions.
    entries : iterable of FeedbackEntry
        Thumbs that count; those about images that are not in the index are left out.
    weight : float
        Of each statement.
    """
    statements = []
    for entry in entries:
        found = catalog.content_rows(entry.content_hash)
        keys = [key for content, key in found if content == entry.content_hash]
        if not keys:
            continue
        width, height = entry.image_size
        x1, y1, x2, y2 = entry.box
        box = (x1 / width, y1 / height, x2 / width, y2 / height)
        if entry.verdict == "up":
            statements.append(Statement(keys[0], entry.phrase, box, weight))
            continue
        label = _label_at(store, keys[0], box)
        if label and not words_said(entry.phrase) - _ARTICLES <= words_said(label):
            statements.append(Statement(keys[0], label, box, weight, True, entry.phrase))
    return statements


def _label_at(
    store: RegionStore, key: tuple[int, int], box: tuple[float, float, float, float]
) -> str:
    """Return what the detector calls the region at a box; empty if it found none there."""
    table = store.gather([key])
    target = np.array([box], np.float32) * np.tile(table.boxes[0, 2:], 2)
    overlaps = pairwise_iou(target, table.boxes)[0]
    overlaps[0] = 0  # the whole image has no label
    overlaps[[is_group(table.label(row)) for row in range(len(table))]] = 0
    best = int(overlaps.argmax())
    return table.label(best) if overlaps[best] >= _SAME_REGION else ""
