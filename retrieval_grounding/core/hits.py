"""The result of a query: hits."""

from __future__ import annotations

import importlib
import os
from dataclasses import asdict, dataclass
from typing import Any

from .addresses import is_path, split_member

__all__ = ["EXPORTS", "MIN_PROBABILITY", "Hit"]

EXPORTS = (".csv", ".parquet", ".json")
"""Suffixes of the files that hits can be saved to; JSON is in the format of COCO."""

MIN_PROBABILITY = 0.3
"""Images that show what a phrase describes with a lower probability are no answer to it."""


@dataclass(frozen=True, repr=False)
class Hit:
    """A region that a phrase refers to.

    Parameters
    ----------
    phrase : str
        The query.
    image : str
        Path of the image, or its URL, or what else names it; see ``docs/usage.md``.
    box : tuple of 4 float
        Corners ``x1, y1, x2, y2`` in pixels of the upright image.
    score : float
        What hits are sorted by: the logit of a trained matcher, or the cosine. Compare scores of
        one phrase only.
    probability : float or None
        Probability that the image shows what the phrase describes and that this region is it;
        None if the matcher is not calibrated.
    label : str
        The detector's class name, ``"whole image"``, or as in ``"dog group"`` for all dogs of an
        image.
    region_id : int or None
        Id in the index; None if there is no index.
    content_hash : str or None
        BLAKE2b-128 of the file that was indexed; None if there is no index. A page or picture
        shows the file only if it still has this hash.
    label_score : float or None
        The detector's confidence in the region and its label, 0 to 1.
    image_size : tuple of 2 int, or None
        Width and height of the upright image in pixels.
    image_probability : float or None
        Probability that the image shows what the phrase describes, wherever it is; not below
        `probability`. None if the matcher is not calibrated.

    Examples
    --------
    >>> hit = Hit("a red car", "street.jpg", (10.0, 20.0, 50.0, 60.0), 2.17, 0.74, "car", None)
    >>> hit
    <Hit 74% 'a red car' in street.jpg, box 10 20 50 60>
    >>> hit.certainty
    '74%'
    >>> hit.as_dict()["box"]
    (10.0, 20.0, 50.0, 60.0)
    >>> hit.missing
    True
    >>> hit.matches, Hit("a unicorn", "street.jpg", (0, 0, 9, 9), -3.1, 0.02, "car", None).matches
    (True, False)
    """

    phrase: str
    image: str
    box: tuple[float, float, float, float]
    score: float
    probability: float | None
    label: str
    region_id: int | None
    content_hash: str | None = None
    label_score: float | None = None
    image_size: tuple[int, int] | None = None
    image_probability: float | None = None

    @property
    def presence(self) -> float | None:
        """What is compared with a minimum probability: that of the image, if it is known."""
        return self.probability if self.image_probability is None else self.image_probability

    @property
    def matches(self) -> bool:
        """Whether the image is probable enough to be an answer, see :data:`MIN_PROBABILITY`.

        If that is False for the first hit of a phrase, nothing matches the phrase. Without
        probabilities every hit matches.
        """
        return self.presence is None or self.presence >= MIN_PROBABILITY

    @property
    def certainty(self) -> str:
        """The probability as text, or the score if there is none."""
        return f"{self.score:.3f}" if self.probability is None else f"{self.probability:.0%}"

    @property
    def missing(self) -> bool:
        """Whether the image's file, or its archive, does not exist now.

        An unreadable one is not missing, and servers are not asked.
        """
        try:
            os.stat(self.image)  # noqa: PTH116 - called for many
        except (FileNotFoundError, NotADirectoryError):
            return is_path(self.image) and split_member(self.image) is None
        except (OSError, ValueError):
            return False
        return False

    def as_dict(self) -> dict[str, Any]:
        """Return the hit as plain values, for JSON."""
        return asdict(self)

    def __repr__(self) -> str:
        name = os.path.basename(self.image) or self.image  # noqa: PTH119 - need not be a path
        box = " ".join(f"{value:.0f}" for value in self.box)
        return f"<Hit {self.certainty} {self.phrase!r} in {name}, box {box}>"

    def _repr_html_(self) -> str:
        """Show the photograph with the box in a notebook."""
        # Reading and drawing belong to rooms above, so they are looked up only when needed.
        notebook = importlib.import_module("retrieval_grounding.search.notebook")
        shown: str = notebook.hits_html([self])
        return shown
