"""Comparisons of two objects by position, size and distance, each with a margin."""

from __future__ import annotations

from collections.abc import Callable

from .objects import DetectedObject

__all__ = ["CLEARLY", "EDGE_SLACK", "SIDE_MARGIN", "Compare", "swapped"]


SIDE_MARGIN = 0.08  # share of the width
HEIGHT_MARGIN = 0.14  # share of the height; people rarely order things by height side by side
EDGE_SLACK = 0.02
AREA_RATIO = 1.5
HEIGHT_RATIO = 1.3

Compare = Callable[[DetectedObject, DetectedObject], bool]


def swapped(compare: Compare) -> Compare:
    """Return the comparison with its two objects exchanged."""
    return lambda a, b: compare(b, a)


def _precedes(a: tuple[float, float], b: tuple[float, float], margin: float) -> bool:
    """Whether interval a is clearly nearer to 0 than b, with both of its ends."""
    (a_start, a_end), (b_start, b_end) = a, b
    return (
        (b_start + b_end - a_start - a_end) / 2 > margin
        and a_start <= b_start + EDGE_SLACK
        and a_end <= b_end + EDGE_SLACK
    )


def _left(a: DetectedObject, b: DetectedObject) -> bool:
    return _precedes((a.left, a.right), (b.left, b.right), SIDE_MARGIN)


def _above(a: DetectedObject, b: DetectedObject) -> bool:
    return _precedes((a.top, a.bottom), (b.top, b.bottom), HEIGHT_MARGIN)


def _larger(a: DetectedObject, b: DetectedObject) -> bool:
    return a.area > AREA_RATIO * b.area


def _taller(a: DetectedObject, b: DetectedObject) -> bool:
    return a.height > HEIGHT_RATIO * b.height


def _closer(a: DetectedObject, b: DetectedObject) -> bool:
    """Whether a is closer to the camera: closer things look larger and reach further down."""
    lower = a.bottom - b.bottom
    if lower > 0.05 and a.area > 1.4 * b.area:
        return True
    # Things cut off by the lower edge of the image end at the same height, however close.
    return lower > -EDGE_SLACK and a.bottom > 0.95 and a.area > 3 * b.area


CLEARLY: dict[str, Compare] = {
    "left": _left,
    "right": swapped(_left),
    "top": _above,
    "bottom": swapped(_above),
    "largest": _larger,
    "smallest": swapped(_larger),
    "tallest": _taller,
    "shortest": swapped(_taller),
    "closest": _closer,
    "farthest": swapped(_closer),
}
"""For each direction, whether the first object is clearly further that way than the second."""
