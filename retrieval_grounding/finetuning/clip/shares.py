"""Interpolating new and original weights, and choosing how much of the new ones is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..guard import Verdict, choose
from .measure import CAPTIONS, GIVEN_BOX, NAMES, Measured

__all__ = ["SHARES", "choose_share", "interpolate", "is_half"]

SHARES = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
"""Shares of the new weights that are tried."""


def interpolate(
    original: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Return ``(1 - share) * original + share * tuned`` for every weight.

    Wortsman et al., Robust fine-tuning of zero-shot models, 2022: the average keeps most of what
    was learned and most of what would be forgotten. If the original fits half precision, so does
    the result.
    """
    half = is_half(original)
    mixed = {}
    for name, value in original.items():
        if not value.is_floating_point() or torch.equal(value, tuned[name]):
            mixed[name] = value
        else:
            moved = value.lerp(tuned[name].to(value), share)
            mixed[name] = moved.half().float() if half else moved
    return mixed


def is_half(weights: Mapping[str, Tensor]) -> bool:
    """Return whether half precision holds weights without loss, because they came from there."""
    floats = [value for value in weights.values() if value.is_floating_point()]
    return all(bool((value.half().to(value) == value).all()) for value in floats)


def choose_share(
    before: Measured, measured_at: Callable[[float], Measured]
) -> tuple[Verdict, dict[float, dict[str, float]]]:
    """Measure each of :data:`SHARES`, and choose one; see :func:`..guard.choose`.

    Returns
    -------
    Verdict
        With share 0 if the original is kept.
    dict of float to dict
        The figures of each share.
    """
    figures = {share: measured_at(share).figures for share in SHARES}
    return choose(before.figures, figures, GIVEN_BOX, (NAMES, CAPTIONS)), figures
