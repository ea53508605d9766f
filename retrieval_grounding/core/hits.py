"""Hits: what a query returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Hit"]


@dataclass(frozen=True)
class Hit:
    """A region that a phrase refers to.

    Parameters
    ----------
    phrase : str
        The phrase, with runs of white space as single spaces.
    image : str
        Path of the image.
    box : tuple of 4 float
        Corners ``x1, y1, x2, y2`` in pixels of the upright image.
    score : float
        What hits are sorted by: the logit of a trained matcher, or the cosine. Compare scores of
        one phrase only.
    probability : float or None
        Probability that the image shows what the phrase says and this is the region; None if the
        matcher is not calibrated.
    label : str
        The detector's class name, or ``"whole image"``.
    region_id : int or None
        Id in the index; None outside one.
    content_hash : str or None
        BLAKE2b-128 of the file that was indexed; None outside an index. Pictures show a file only
        if it has this hash.

    Examples
    --------
    >>> hit = Hit("a red car", "street.jpg", (10.0, 20.0, 50.0, 60.0), 2.17, 0.74, "car", None)
    >>> hit.certainty
    '74%'
    >>> hit.as_dict()["box"]
    (10.0, 20.0, 50.0, 60.0)
    """

    phrase: str
    image: str
    box: tuple[float, float, float, float]
    score: float
    probability: float | None
    label: str
    region_id: int | None
    content_hash: str | None = None

    @property
    def certainty(self) -> str:
        """The text that pictures show: the probability, or else the score."""
        return f"{self.score:.3f}" if self.probability is None else f"{self.probability:.0%}"

    def as_dict(self) -> dict[str, Any]:
        """Return the hit as plain values, for JSON."""
        return asdict(self)
