"""What a collection shows most often, as phrases to ask."""

from __future__ import annotations

from collections import Counter

from ...core.region_table import RegionTable
from ..language.words import fix_articles
from .objects import find_objects

__all__ = ["frequent_objects"]


def frequent_objects(table: RegionTable, limit: int) -> list[str]:
    """Return phrases such as "a dog" for what is certainly in most images, most frequent first.

    Parameters
    ----------
    table : RegionTable
        The regions of some images.
    limit : int
        Maximum number of phrases; there may be none.
    """
    counts: Counter[str] = Counter()
    for image in range(len(table.offsets) - 1):
        counts.update({found.label for found in find_objects(table, image) if found.sure})
    labels = sorted(counts, key=lambda label: (-counts[label], label))
    return [fix_articles(f"a {label}") for label in labels[:limit]]
