"""The choice of matcher: the index's own, else the bundled one, else cosine."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import StoreError
from ..models.encoder import Fingerprint
from ..models.presets import bundled_path
from ..storage.files import is_regular
from .calibration import Calibration
from .install import MATCHER_FILE
from .matcher import CosineMatcher, Matcher

if TYPE_CHECKING:
    from .trained import TrainedMatcher

__all__ = ["bundled_matcher", "load_matcher"]


_log = logging.getLogger(__name__)


def load_matcher(
    directory: Path | None,
    encoder: Fingerprint,
    device: str,
    cosine_calibration: Calibration | None = None,
    checksums: Collection[str] = (),
) -> Matcher:
    """Return the best matcher available for embeddings of `encoder`.

    If the index's own matcher is damaged, a warning is logged and the next best is returned.

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
    checksums : collection of str
        Those that the index's matcher may have; empty if they were never recorded.

    Raises
    ------
    ModelError
        If the index's matcher was trained for a different encoder or by a different release.
    """
    damage: BaseException | None = None
    if directory is not None:
        from .trained import DamagedMatcherError, TrainedMatcher

        path = directory / MATCHER_FILE
        try:
            if is_regular(path):
                matcher = TrainedMatcher.load(path, device, checksums)
                matcher.check(encoder)
                return matcher
        except DamagedMatcherError as error:
            damage = error.__cause__
        except (StoreError, OSError) as error:  # it is a link, a folder, a pipe, or out of reach
            damage = error
    best: Matcher = bundled_matcher(encoder, device) or CosineMatcher(cosine_calibration)
    instead = "cosine" if isinstance(best, CosineMatcher) else "the bundled matcher"
    if damage is not None:
        _log.warning(
            "%s cannot be used (%s), so regions are ranked by %s; "
            "'retrieval-grounding verify %s --repair' moves it aside",
            f"{directory}/{MATCHER_FILE}",
            damage,
            instead,
            directory,
        )
    elif isinstance(best, CosineMatcher):
        _log.info("no trained matcher fits embeddings of %s; regions are ranked by cosine", encoder)
    return best


def bundled_matcher(encoder: Fingerprint, device: str) -> TrainedMatcher | None:
    """Return the matcher that comes with the package, or None if `encoder` is not nano's."""
    from .trained import TrainedMatcher

    matcher = TrainedMatcher.load(bundled_path("matcher"), device)
    return matcher if matcher.encoder.matches(encoder) else None
