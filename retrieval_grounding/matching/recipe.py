"""Recipes: how a matcher is made of a trained network and others, as its file says."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from .label_matcher import LabelMatcher
from .matcher import CosineMatcher, Matcher
from .names import BUNDLED, COSINE_LABEL

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """What is combined with a network: a blend, an anchor, or both.

    Parameters
    ----------
    weight : float
        Share of ``cosine+label`` in a blend with it, between 0 and 1; 0 for none.
    label_scale : float
        Scale of ``cosine+label``; see :class:`.label_matcher.LabelMatcher`.
    spreads : tuple of 2 float
        Standard deviations of the scores of the network and of ``cosine+label``.
    anchor : str
        ``"bundled"`` or ``"cosine+label"``: the matcher that ranks images; empty for none.
    anchor_spreads : tuple of 2 float
        Standard deviations of the scores of the anchor and of what it anchors.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range.
    """

    weight: float = 0.0
    label_scale: float = 0.0
    spreads: tuple[float, float] = (1.0, 1.0)
    anchor: str = ""
    anchor_spreads: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if not len(self.spreads) == len(self.anchor_spreads) == 2:
            raise ValueError("two spreads belong together")
        spreads = (*self.spreads, *self.anchor_spreads)
        numbers = (self.weight, self.label_scale, *spreads)
        if any(type(n) not in (int, float) or not math.isfinite(n) for n in numbers):
            raise TypeError(f"its recipe is {self}")
        if not (0 <= self.weight <= 1 and min(spreads) > 0 and self.label_scale >= 0):
            raise ValueError(f"its recipe is {self}")
        if self.anchor not in ("", BUNDLED, COSINE_LABEL):
            raise ValueError("its anchor is an unknown matcher")

    @property
    def is_plain(self) -> bool:
        """Whether the network is used alone."""
        return not (self.weight or self.anchor)

    @property
    def label_matcher(self) -> Matcher:
        """The matcher to blend with: ``cosine+label``."""
        return LabelMatcher(self.label_scale) if self.label_scale else CosineMatcher()

    def describe(self, network: str) -> str:
        """Return the recipe in words.

        Examples
        --------
        >>> Recipe(weight=0.25).describe("residual")
        'residual + 0.25 cosine+label'
        >>> Recipe(anchor="bundled").describe("residual")
        'residual, images ranked by bundled'
        """
        text = f"{network} + {self.weight:g} {COSINE_LABEL}" if self.weight else network
        return f"{text}, images ranked by {self.anchor}" if self.anchor else text

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> Recipe:
        """Return the recipe of :meth:`as_dict`."""
        pairs = {name: tuple(value[name]) for name in ("spreads", "anchor_spreads")}
        return cls(**{**value, **pairs})
