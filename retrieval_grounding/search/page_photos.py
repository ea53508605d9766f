"""The photographs of a page: one picture each, with the boxes of all its hits."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ..core.addresses import link_to
from ..core.errors import ImageError
from ..core.groups import label_if_sure
from ..core.hits import Hit
from ..core.progress import progress_bar
from ..core.regions import WHOLE_IMAGE
from ..data.images import load_image
from .draw import COLORS

__all__ = ["Mark", "Photo", "data_url", "page_photos", "phrase_colors", "sure_label"]

_PAGE_PIXELS = 60_000_000  # of all pictures of a page, about 20 MB
_PHOTO_PIXELS = 1600 * 1200
_WIDEST, _TALLEST = 2.4, 0.6  # ratios of width to height that a card may have
_LINE, _NAME = 5.0, 60.0  # about what a name takes, as percentages of the photograph
_LONG_WORK = 20  # photographs from which progress is shown


@dataclass
class Mark:
    """A hit as a page shows it; lengths are percentages of the photograph.

    Parameters
    ----------
    photo : str
        Path of the photograph.
    phrase, certainty : str
        As in the hit.
    label : str
        The detector's class name if it is sure, else empty.
    color : str
        Of the phrase, in CSS.
    x, y, width, height : float
        The box.
    row : int
        Line of its name above the box, so that names of similar boxes do not overlap.
    """

    photo: str
    phrase: str
    certainty: str
    label: str
    color: str
    x: float = 0.0
    y: float = 0.0
    width: float = 100.0
    height: float = 100.0
    row: int = 0

    @property
    def above(self) -> bool:
        """Whether the name has room above the box."""
        return self.y > 8

    @property
    def line(self) -> float:
        """Where its name is, from above."""
        return self.y + _LINE * (-self.row - 1 if self.above else self.row)

    def covers(self, other: Mark) -> bool:
        """Return whether its name may lie on another mark's."""
        return abs(self.line - other.line) < _LINE and abs(self.x - other.x) < _NAME

    @property
    def side(self) -> str:
        """Where the name begins or ends, in CSS."""
        right = max(0.0, 100 - self.x - self.width)
        return f"left: {self.x}%" if self.x < 50 else f"right: {right:.2f}%"

    @property
    def description(self) -> str:
        """The text for those who cannot see the picture."""
        return f"{self.phrase}, {self.certainty}: {_place(self)}"


@dataclass
class Photo:
    """A photograph of a page.

    Parameters
    ----------
    number : int
        On the page, from 1.
    path : str
        As in its hits.
    source : str
        The picture as a ``data:`` URL; empty if it cannot be shown.
    reason : str
        Why it cannot be shown, or empty.
    width, height : int
        Of the upright photograph, in pixels.
    marks : list of Mark
        All its hits.
    """

    number: int
    path: str
    source: str = ""
    reason: str = ""
    width: int = 4
    height: int = 3
    marks: list[Mark] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return Path(self.path).name or self.path

    @property
    def link(self) -> str:
        """A URL of the file or its archive, if the picture is shown; empty if there is none."""
        return link_to(self.path) if self.source else ""

    @property
    def ratio(self) -> float:
        """Width of its card relative to the height."""
        return round(min(max(self.width / self.height, _TALLEST), _WIDEST), 4)

    @property
    def tall(self) -> bool:
        """Whether the card is wider than the photograph."""
        return self.width / self.height < self.ratio

    @property
    def description(self) -> str:
        """The text for those who cannot see the picture."""
        return "; ".join(mark.description for mark in self.marks)


Picture = Callable[[Hit], tuple[Image.Image, Hit]]
"""Returns the picture of a hit, and the hit with its box in pixels of that picture."""


def page_photos(
    hits: Sequence[Hit], colors: dict[str, str], picture: Picture | None = None
) -> dict[str, Photo]:
    """Read and scale down each photograph once, and return them by path, with their marks.

    Parameters
    ----------
    hits : sequence of Hit
        In the order in which the photographs are numbered.
    colors : dict of str to str
        CSS color of each phrase.
    picture : callable, optional
        Finds pictures; by default they are read from their files.
    """
    groups: dict[str, list[Hit]] = {}
    for hit in hits:
        groups.setdefault(hit.image, []).append(hit)
    photos = {}
    limit = min(_PHOTO_PIXELS, _PAGE_PIXELS // max(1, len(groups)))
    shown = None if len(groups) >= _LONG_WORK else False
    with progress_bar("Reading photographs", len(groups), "images", shown) as advance:
        for number, (path, own) in enumerate(groups.items(), 1):
            photos[path] = _photo(number, own, colors, limit, picture or _load)
            advance(1)
    return photos


def phrase_colors(phrases: Sequence[str]) -> dict[str, str]:
    """Return a CSS color for each phrase: those of pictures, in turn."""
    pairs = zip(phrases, itertools.cycle(COLORS), strict=False)
    return {phrase: f"rgb({red} {green} {blue})" for phrase, (red, green, blue) in pairs}


def sure_label(hit: Hit) -> str:
    """Return the detector's label of a hit if it is an object and the detector is sure."""
    return "" if hit.label == WHOLE_IMAGE else label_if_sure(hit.label, hit.label_score)


def data_url(image: Image.Image, pixels: int = _PHOTO_PIXELS) -> str:
    """Return a picture as a ``data:`` URL, scaled down to at most that many pixels."""
    scale = min(1.0, (pixels / (image.width * image.height)) ** 0.5)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _load(hit: Hit) -> tuple[Image.Image, Hit]:
    return load_image(hit.image, hit.content_hash), hit


def _photo(
    number: int, hits: Sequence[Hit], colors: dict[str, str], pixels: int, picture: Picture
) -> Photo:
    path = hits[0].image
    photo = Photo(number, path)
    marks = [
        Mark(path, hit.phrase, hit.certainty, sure_label(hit), colors[hit.phrase]) for hit in hits
    ]
    photo.marks = marks
    try:
        image, first = picture(hits[0])
    except ImageError as error:
        photo.reason = error.reason
        return photo
    photo.source, (photo.width, photo.height) = data_url(image, pixels), image.size
    for index, (mark, hit) in enumerate(zip(marks, hits, strict=True)):
        # A thumbnail is smaller than what was indexed, so that boxes shrink with it.
        x1, x2 = (value * first.box[2] / hits[0].box[2] for value in hit.box[::2])
        y1, y2 = (value * first.box[3] / hits[0].box[3] for value in hit.box[1::2])
        mark.x, mark.width = _percent(x1, image.width), _percent(x2 - x1, image.width)
        mark.y, mark.height = _percent(y1, image.height), _percent(y2 - y1, image.height)
        while any(map(mark.covers, marks[:index])):
            mark.row += 1
    return photo


def _percent(length: float, whole: int) -> float:
    return round(100 * length / whole, 2)


def _place(mark: Mark) -> str:
    """Return where a box is in words."""
    if mark.width > 90 and mark.height > 90:
        return "the whole photograph"
    column = ("left", "center", "right")[min(2, int((mark.x + mark.width / 2) // 33.4))]
    row = ("top", "middle", "bottom")[min(2, int((mark.y + mark.height / 2) // 33.4))]
    return f"{row} {column}"
