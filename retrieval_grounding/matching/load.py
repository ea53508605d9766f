"""The choice of matcher: the index's own, else the bundled one, else cosine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from ..core.errors import StoreError
from ..models.encoder import Fingerprint
from ..models.presets import bundled_path
from ..storage.files import is_regular
from .calibration import Calibration
from .install import MATCHER_FILE
from .matcher import CosineMatcher, Matcher
from .matcher_header import DamagedMatcherError, check_encoder, read_header

if TYPE_CHECKING:
    from .trained import TrainedMatcher

__all__ = ["ChosenMatcher", "bundled_matcher", "choose_matcher", "load_matcher"]


_log = logging.getLogger(__name__)


class ChosenMatcher(NamedTuple):
    """Which matcher an index uses.

    Parameters
    ----------
    name : str
        Its :attr:`.matcher.Matcher.name`.
    kind : str or None
        The kind of its network; None if it has none.
    own : bool
        Whether it was trained on the index.
    """

    name: str
    kind: str | None
    own: bool


class _Trained(Protocol):
    @property
    def encoder(self) -> Fingerprint: ...


T = TypeVar("T", bound=_Trained)


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
    from .trained import TrainedMatcher

    def read(path: Path, checksums: Collection[str]) -> TrainedMatcher:
        return TrainedMatcher.load(path, device, checksums)

    found, _ = _choose(directory, encoder, checksums, read)
    return found or CosineMatcher(cosine_calibration)


def choose_matcher(
    directory: Path, encoder: Fingerprint, checksums: Collection[str] = ()
) -> ChosenMatcher:
    """Return which matcher :func:`load_matcher` would load, without PyTorch.

    The weights are not looked at, except that the file has the recorded checksum.
    """
    found, own = _choose(directory, encoder, checksums, lambda *file: read_header(*file)[0])
    if found is None:
        return ChosenMatcher(CosineMatcher().name, None, False)
    return ChosenMatcher(found.config.name, found.config.kind, own)


def bundled_matcher(encoder: Fingerprint, device: str) -> TrainedMatcher | None:
    """Return the matcher that comes with the package, or None if `encoder` is not nano's."""
    from .trained import TrainedMatcher

    matcher = TrainedMatcher.load(bundled_path("matcher"), device)
    return matcher if matcher.encoder.matches(encoder) else None


def _choose(
    directory: Path | None,
    encoder: Fingerprint,
    checksums: Collection[str],
    read: Callable[[Path, Collection[str]], T],
) -> tuple[T | None, bool]:
    """Return what was read of the best matcher for `encoder`, and whether it is the index's own."""
    damage: BaseException | None = None
    if directory is not None:
        path = directory / MATCHER_FILE
        try:
            if is_regular(path):
                own = read(path, checksums)
                check_encoder(own.encoder, encoder)
                return own, True
        except DamagedMatcherError as error:
            damage = error.__cause__
        except (StoreError, OSError) as error:  # it is a link, a folder, a pipe, or out of reach
            damage = error
    bundled: T | None = read(bundled_path("matcher"), ())
    if bundled is not None and not bundled.encoder.matches(encoder):
        bundled = None
    instead = "cosine" if bundled is None else "the bundled matcher"
    if damage is not None:
        _log.warning(
            "%s cannot be used (%s), so regions are ranked by %s; "
            "'retrieval-grounding verify %s --repair' moves it aside",
            f"{directory}/{MATCHER_FILE}",
            damage,
            instead,
            directory,
        )
    elif bundled is None:
        _log.info("no trained matcher fits embeddings of %s; regions are ranked by cosine", encoder)
    return bundled, False
