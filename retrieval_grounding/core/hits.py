"""What a query answers: hits."""

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
        What was asked.
    image : str
        Path of the image.
    box : tuple of 4 float
        Corners ``x1, y1, x2, y2`` in pixels of the upright image.
    score : float
        By what hits are sorted: the logit of a trained matcher, or else the cosine.
    probability : float or None
        That the phrase is in the image and this region is what it means; None if the matcher is
        not calibrated.
    label : str
        The detector's class name, or ``"whole image"``.
    region_id : int or None
        Id in the index; None outside one.
    content_hash : str or None
        BLAKE2b-128 of the file that was indexed; None outside an index. Pictures show a file only
        if it has this hash.
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
        """What pictures show: the probability, or the score if there is none."""
        return f"{self.score:.3f}" if self.probability is None else f"{self.probability:.0%}"

    def as_dict(self) -> dict[str, Any]:
        """Return the hit as plain values, for JSON."""
        return asdict(self)
