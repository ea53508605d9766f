"""The result of a query: hits."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from .addresses import is_path, split_member
from .errors import GroundingError
from .explanation import Explanation

__all__ = ["EXPORTS", "MIN_PROBABILITY", "Hit", "Similar"]

EXPORTS = (".csv", ".parquet", ".json")
"""Suffixes of the files that hits can be saved to; JSON is in the format of COCO."""

MIN_PROBABILITY = 0.38
"""Images that show what a phrase describes with a lower probability are no answer to it."""


class Similar(NamedTuple):
    """An image that was left out because a better hit shows the same.

    Parameters
    ----------
    image : str
        Its path.
    relation : str
        ``"copy"`` (the same content), ``"near"`` (a near-duplicate) or ``"burst"`` (taken within
        seconds, and alike).
    """

    image: str
    relation: str


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
    id : str or None
        The id that the user gave the image.
    metadata : mapping
        The metadata that the user gave the image.
    also : tuple of Hit
        The best regions of the same image for what else was asked for (``Query.also``).
    similar : tuple of Similar
        What was left out in favor of this hit (``Query.unique``).
    explainer : callable or None
        What :meth:`explain` asks; None if the hit was made or loaded otherwise.

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
    id: str | None = None
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict, hash=False)
    also: tuple[Hit, ...] = ()
    similar: tuple[Similar, ...] = ()
    explainer: Callable[[Hit], Explanation] | None = field(default=None, repr=False, compare=False)

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

    def explain(self) -> Explanation:
        """Return why this was found: the parts of the score, the runner-up, the calibration.

        Raises
        ------
        GroundingError
            If the hit does not come from a query or from :func:`ground` in this process, or the
            index has been closed.
        """
        if self.explainer is None:
            raise GroundingError(
                "this hit does not know its search, because it was stored or made by hand; ask the "
                "query again"
            )
        return self.explainer(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the hit as plain values, for JSON; without what it does not have."""
        values = asdict(self)
        del values["explainer"]
        if self.id is None:
            del values["id"]
        for name in ("metadata", "also", "similar"):
            if not values[name]:
                del values[name]
        if self.also:
            values["also"] = [hit.as_dict() for hit in self.also]
        if self.similar:
            values["similar"] = [found._asdict() for found in self.similar]
        return values

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
