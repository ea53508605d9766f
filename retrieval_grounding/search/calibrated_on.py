"""What the probabilities of a matcher were calibrated on, in words."""

from __future__ import annotations

from pathlib import Path

from ..core.text import counted
from ..matching.collection import read_calibrations
from ..matching.feedback_matcher import FeedbackMatcher
from ..matching.matcher import CosineMatcher, Matcher
from ..storage.catalog import Catalog

__all__ = ["describe_calibration"]


def describe_calibration(catalog: Catalog | None, matcher: Matcher) -> str:
    """Return what a matcher's probabilities were calibrated on.

    Parameters
    ----------
    catalog : Catalog or None
        Of the index that is searched.
    matcher : Matcher
        May say it itself, as an attribute ``calibrated_on``.
    """
    if isinstance(matcher, FeedbackMatcher):
        matcher = matcher.base
    said = getattr(matcher, "calibrated_on", None)
    if isinstance(said, str):
        return said
    calibration = getattr(matcher, "calibration", None)
    if catalog is not None and calibration in read_calibrations(catalog).values():
        return "calibrated on made-up phrases about the images of this index"
    anchor = getattr(matcher, "anchor", None)
    if anchor is not None and anchor.calibration == calibration:
        matcher = anchor
    if isinstance(matcher, CosineMatcher):
        images = catalog.setting("cosine_calibration_images") if catalog is not None else None
        if isinstance(images, int):
            return f"calibrated on made-up phrases about {counted(images, 'image')} of this index"
        return "calibrated by whoever made the matcher"
    file = getattr(matcher, "file", None)
    if catalog is not None and isinstance(file, Path) and file.is_relative_to(catalog.directory):
        return "calibrated on expressions held out from the training of this index's matcher"
    return "calibrated on expressions about other photographs, so it is a guide on yours"
