"""What the probabilities of a matcher were calibrated on, in words."""

from __future__ import annotations

from ..core.text import counted
from ..matching.install import MATCHER_FILE
from ..matching.matcher import CosineMatcher, Matcher
from ..storage.catalog import Catalog
from ..storage.files import is_regular

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
    said = getattr(matcher, "calibrated_on", None)
    if isinstance(said, str):
        return said
    if isinstance(matcher, CosineMatcher):
        images = catalog.setting("cosine_calibration_images") if catalog is not None else None
        if isinstance(images, int):
            return f"calibrated on made-up phrases about {counted(images, 'image')} of this index"
        return "calibrated by whoever made the matcher"
    if catalog is not None and is_regular(catalog.directory / MATCHER_FILE):
        return "calibrated on expressions held out from the training of this index's matcher"
    return "calibrated on expressions about other photographs, so it is a guide on yours"
