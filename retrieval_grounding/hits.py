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
        By what hits are sorted: the cosine of phrase and region, -1 to 1.
    probability : float or None
        That the region is what the phrase means; None as long as no calibrated matcher is used.
    label : str
        The detector's class name, or ``"whole image"``.
    region_id : int or None
        Id in the index; None outside one.
    """

    phrase: str
    image: str
    box: tuple[float, float, float, float]
    score: float
    probability: float | None
    label: str
    region_id: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return the hit as plain values, for JSON."""
        return asdict(self)
