"""Which matcher answers: the index's own, else the bundled one, else calibrated cosine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..models.encoder import Fingerprint
from ..models.presets import bundled_path
from .calibration import Calibration
from .matcher import CosineMatcher, Matcher

if TYPE_CHECKING:
    from .trained import TrainedMatcher

__all__ = ["MATCHER_FILE", "bundled_matcher", "load_matcher"]


MATCHER_FILE = "matcher.safetensors"


def load_matcher(
    directory: Path | None,
    encoder: Fingerprint,
    device: str,
    cosine_calibration: Calibration | None = None,
) -> Matcher:
    """Return the best matcher there is for embeddings of `encoder`.

    Parameters
    ----------
    directory : Path or None
        An index, which may have a matcher of its own.
    encoder : Fingerprint
        Of the encoder that made the embeddings.
    device : str
        Where the matcher runs.
    cosine_calibration : Calibration, optional
        For the fallback.

    Raises
    ------
    ModelError
        If the index's matcher is damaged or was trained for another encoder.
    """
    if directory is not None and (directory / MATCHER_FILE).is_file():
        from .trained import TrainedMatcher

        own = TrainedMatcher.load(directory / MATCHER_FILE, device)
        own.check(encoder)
        return own
    bundled = bundled_matcher(encoder, device)
    return CosineMatcher(cosine_calibration) if bundled is None else bundled


def bundled_matcher(encoder: Fingerprint, device: str) -> TrainedMatcher | None:
    """Return the matcher that comes with the package, or None if `encoder` is not nano's."""
    from .trained import TrainedMatcher

    matcher = TrainedMatcher.load(bundled_path("matcher"), device)
    return matcher if matcher.encoder.matches(encoder) else None
