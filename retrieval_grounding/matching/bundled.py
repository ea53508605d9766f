"""The matcher that comes with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..models.encoder import Fingerprint
from ..models.presets import bundled_path
from .matcher_header import MatcherHeader, read_header

if TYPE_CHECKING:
    from .trained import TrainedMatcher

__all__ = ["bundled_header", "bundled_matcher", "fits_bundled"]


def bundled_header() -> MatcherHeader:
    """Return what the file of the bundled matcher says beside its weights, without PyTorch."""
    return read_header(bundled_path("matcher"))[0]


def fits_bundled(encoder: Fingerprint) -> bool:
    """Return whether the bundled matcher fits `encoder`, which is nano's then."""
    return bundled_header().encoder.matches(encoder)


def bundled_matcher(encoder: Fingerprint, device: str) -> TrainedMatcher | None:
    """Return the matcher that comes with the package, or None if `encoder` is not nano's."""
    from .trained import TrainedMatcher

    if not fits_bundled(encoder):
        return None
    return TrainedMatcher.load(bundled_path("matcher"), device)
