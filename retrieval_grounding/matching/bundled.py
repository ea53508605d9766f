"""The matcher that comes with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..models.encoder import Fingerprint
from ..models.presets import bundled_path

if TYPE_CHECKING:
    from .trained import TrainedMatcher

__all__ = ["bundled_matcher"]


def bundled_matcher(encoder: Fingerprint, device: str) -> TrainedMatcher | None:
    """Return the matcher that comes with the package, or None if `encoder` is not nano's."""
    from .trained import TrainedMatcher

    matcher = TrainedMatcher.load(bundled_path("matcher"), device)
    return matcher if matcher.encoder.matches(encoder) else None
