"""Cards: photographs with boxes, as the grid shows them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...core.hits import Hit
from ...search.page_photos import sure_label
from ..api.shapes import picture_urls

__all__ = ["Box", "Card", "certainty", "hit_card", "shape_of", "shown_name"]

_NARROWEST, _WIDEST, _SHAPES = 0.56, 2.4, 30
_WHOLE = 0.97  # a box that covers more than this has nothing around it


@dataclass(frozen=True)
class Box:
    """A box in pixels of the upright image."""

    x: float
    y: float
    width: float
    height: float
    part: bool = True

    @classmethod
    def of(cls, hit: Hit) -> Box:
        """Return the box of a hit."""
        x1, y1, x2, y2 = (round(value, 1) for value in hit.box)
        width, height = hit.image_size or (x2, y2)
        share = (x2 - x1) * (y2 - y1) / max(1, width * height)
        return cls(x1, y1, round(x2 - x1, 1), round(y2 - y1, 1), share < _WHOLE)


@dataclass(frozen=True)
class Card:
    """A photograph of a grid; see ``parts.html``."""

    url: str
    source: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    phrase: str
    share: float | None
    certainty: str
    meaning: str
    under: str
    path: str
    alike: int
    anchor: str
    teach: Any = None

    @property
    def shape(self) -> int:
        """The class of its width to its height."""
        return shape_of(self.width, self.height)

    @property
    def alt(self) -> str:
        """The text for those who cannot see the picture."""
        where = _place(self) if self.boxes else ""
        said = ", ".join(part for part in (self.phrase, self.certainty, where) if part)
        return f"{said}; {shown_name(self.path)}" if said else shown_name(self.path)


def hit_card(hit: Hit, index: str, url: str, phrase: str, teach: Any = None) -> Card:
    """Return the card of a hit.

    Parameters
    ----------
    hit : Hit
        Of a query.
    index : str
        Name of the collection.
    url : str
        Of the page of the photograph.
    phrase : str
        What was asked for.
    teach : optional
        The forms with thumbs.
    """
    assert hit.content_hash is not None
    assert hit.image_size is not None
    width, height = hit.image_size
    label = sure_label(hit)
    name = shown_name(hit.image)
    return Card(
        url=url,
        source=picture_urls(index, hit.content_hash, None)["thumbnail"],
        width=width,
        height=height,
        boxes=(Box.of(hit), *(Box.of(also) for also in hit.also)),
        phrase=phrase or label or "alike",
        share=hit.presence,
        certainty=certainty(hit),
        meaning=_meaning(hit),
        under=" · ".join([label, name] if phrase and label else [name]),
        path=hit.image,
        alike=1 + len(hit.similar) if hit.similar else 0,
        anchor=f"i-{hit.content_hash}",
        teach=teach,
    )


def certainty(hit: Hit) -> str:
    """Return how probable it is that the image shows it, as text; else the score."""
    if hit.presence is None:
        return f"{hit.score:.2f}"
    return "<1%" if hit.presence < 0.01 else f"{hit.presence:.0%}"


def shape_of(width: int, height: int) -> int:
    """Return the class of a shape: 30 steps from tall to wide.

    >>> shape_of(100, 400), shape_of(640, 480), shape_of(4000, 400)
    (0, 17, 29)
    """
    ratio = min(max(width / max(1, height), _NARROWEST), _WIDEST)
    return round((_SHAPES - 1) * math.log(ratio / _NARROWEST) / math.log(_WIDEST / _NARROWEST))


def shown_name(path: str) -> str:
    """Return the last part of a path or a URL."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2] or path


def _meaning(hit: Hit) -> str:
    if hit.presence is None or hit.probability is None:
        return "Likeness to the example: the cosine of their embeddings"
    return (
        f"The photograph shows it with a probability of {hit.presence:.0%}, "
        f"in this box with {hit.probability:.0%}"
    )


def _place(card: Card) -> str:
    box = card.boxes[0]
    if not box.part:
        return "the whole photograph"
    across = (box.x + box.width / 2) / card.width
    down = (box.y + box.height / 2) / card.height
    column = ("left", "center", "right")[min(2, int(3 * across))]
    return f"{('top', 'middle', 'bottom')[min(2, int(3 * down))]} {column}"
