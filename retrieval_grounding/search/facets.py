"""Facets: how hits are spread over labels, folders, dates and sizes, and how to filter by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.groups import shown_label
from ..core.hits import Hit
from ..core.query.text import quoted_text
from ..core.regions import WHOLE_IMAGE

__all__ = ["Choice", "Facet", "facets"]

_MAX_CHOICES = 30
_UNKNOWN_YEAR = "9999"
_SIZES = (
    ("less than 2%", "size:<2%", 0.0, 0.02),
    ("2% to 10%", "size:>2% size:<10%", 0.02, 0.1),
    ("10% to 40%", "size:>10% size:<40%", 0.1, 0.4),
    ("more than 40%", "size:>40%", 0.4, 2.0),
)


@dataclass(frozen=True)
class Choice:
    """A filter that keeps some of the hits.

    Parameters
    ----------
    text : str
        What people read.
    clauses : str
        What a query has to say more, in its text form.
    count : int
        How many of the hits it keeps.
    """

    text: str
    clauses: str
    count: int


@dataclass(frozen=True)
class Facet:
    """A property of hits, with the filters that it offers."""

    name: str
    choices: tuple[Choice, ...]


def facets(hits: Sequence[Hit], dates: Mapping[str, str]) -> list[Facet]:
    """Return the facets that tell some of the hits apart.

    Parameters
    ----------
    hits : sequence of Hit
        Of one query.
    dates : mapping of str to str
        When each image was taken, ``2024-05-31T18:30:00``, by path.

    Examples
    --------
    >>> a = Hit("a dog", "/p/2024/a.jpg", (0, 0, 10, 10), 1.0, 0.9, "dog", 1, image_size=(20, 20))
    >>> b = Hit("a dog", "/p/2025/b.jpg", (0, 0, 20, 20), 1.0, 0.9, "cat", 2, image_size=(20, 20))
    >>> [(facet.name, [c.clauses for c in facet.choices]) for facet in facets([a, b], {})][:2]
    [('Label', ['label:cat', 'label:dog']), ('Folder', ['folder:/p/2024', 'folder:/p/2025'])]
    """
    found = (
        Facet("Label", _labels(hits)),
        Facet("Folder", _folders(hits)),
        Facet("Date", _dates([dates[hit.image] for hit in hits if hit.image in dates])),
        Facet("Size", _sizes(hits)),
    )
    return [facet for facet in found if len(facet.choices) > 1]


def _labels(hits: Sequence[Hit]) -> tuple[Choice, ...]:
    counts = Counter(hit.label for hit in hits)
    return tuple(
        Choice(
            "the whole photograph" if label == WHOLE_IMAGE else shown_label(label),
            f"label:{quoted_text(label)}",
            count,
        )
        for label, count in _most_frequent(counts)
    )


def _folders(hits: Sequence[Hit]) -> tuple[Choice, ...]:
    """Return the folders in which the paths of hits first differ."""
    folders = [tuple(hit.image.split("/")[:-1]) for hit in hits]  # URLs have them, too
    depth = 1
    while len({folder[:depth] for folder in folders}) == 1 and depth <= len(folders[0]):
        depth += 1
    counts = Counter("/".join(folder[:depth]) for folder in folders if len(folder) >= depth)
    return tuple(
        Choice(folder.rpartition("/")[2], f"folder:{quoted_text(_glob(folder))}", count)
        for folder, count in sorted(_most_frequent(counts))
    )


def _glob(folder: str) -> str:
    return folder if folder.startswith("/") else f"*{folder}"


def _dates(dates: Sequence[str]) -> tuple[Choice, ...]:
    """Return years, or months or days if all are of the same year or month."""
    known = [date for date in dates if not date.startswith(_UNKNOWN_YEAR)]
    for length in (4, 7, 10):
        counts = Counter(date[:length] for date in known)
        if len(counts) > 1:
            kept = sorted(_most_frequent(counts), reverse=True)
            return tuple(Choice(date, f"since:{date} until:{date}", n) for date, n in kept)
    return ()


def _sizes(hits: Sequence[Hit]) -> tuple[Choice, ...]:
    shares = [_share(hit) for hit in hits if hit.image_size is not None]
    counted = [
        Choice(text, clauses, sum(low <= share < high for share in shares))
        for text, clauses, low, high in _SIZES
    ]
    return tuple(choice for choice in counted if choice.count)


def _share(hit: Hit) -> float:
    assert hit.image_size is not None
    x1, y1, x2, y2 = hit.box
    return (x2 - x1) * (y2 - y1) / (hit.image_size[0] * hit.image_size[1])


def _most_frequent(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_MAX_CHOICES]
