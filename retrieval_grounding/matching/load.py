"""The choice of matcher: the index's own, else the bundled one, else cosine."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.encoder import Fingerprint
from ..models.presets import bundled_path
from ..storage.files import is_regular
from .calibration import Calibration
from .matcher import CosineMatcher, Matcher

if TYPE_CHECKING:
    from .trained import TrainedMatcher

__all__ = ["MATCHER_FILE", "bundled_matcher", "load_matcher"]


MATCHER_FILE = "matcher.safetensors"

_log = logging.getLogger(__name__)


def load_matcher(
    directory: Path | None,
    encoder: Fingerprint,
    device: str,
    cosine_calibration: Calibration | None = None,
) -> Matcher:
    """Return the best matcher available for embeddings of `encoder`.

    Parameters
    ----------
    directory : Path or None
        An index, which may have a matcher of its own.
    encoder : Fingerprint
        The encoder that made the embeddings.
    device : str
        Where the matcher runs.
    cosine_calibration : Calibration, optional
        Used if no trained matcher fits and regions are ranked by cosine.

    Raises
    ------
    ModelError
        If the index's matcher is damaged or was trained for a different encoder.
    StoreError
        If it is not a regular file.
    """
    if directory is not None and is_regular(directory / MATCHER_FILE):
        from .trained import TrainedMatcher

        matcher = TrainedMatcher.load(directory / MATCHER_FILE, device)
        matcher.check(encoder)
        return matcher
    bundled = bundled_matcher(encoder, device)
    if bundled is not None:
        return bundled
    _log.info("no trained matcher fits embeddings of %s; regions are ranked by cosine", encoder)
    return CosineMatcher(cosine_calibration)


def bundled_matcher(encoder: Fingerprint, device: str) -> TrainedMatcher | None:
    """Return the matcher that comes with the package, or None if `encoder` is not nano's."""
    from .trained import TrainedMatcher

    matcher = TrainedMatcher.load(bundled_path("matcher"), device)
    return matcher if matcher.encoder.matches(encoder) else None
