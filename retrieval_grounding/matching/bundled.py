"""The matchers that come with the package: nano's, and one for every other encoder."""

from __future__ import annotations

from functools import cache

from ..models.encoder import Fingerprint
from ..models.presets import bundled_path
from ..storage.catalog import Catalog
from .cosine_scale import catalog_scale
from .matcher import Matcher
from .matcher_header import MatcherHeader, read_header

__all__ = ["bundled_by_default", "bundled_header", "bundled_matcher", "fits_nano", "nano_matcher"]


def bundled_header(encoder: Fingerprint) -> MatcherHeader:
    """Return what the file of the bundled matcher says beside its weights, without PyTorch."""
    return _header("matcher" if fits_nano(encoder) else "any-matcher")


def fits_nano(encoder: Fingerprint) -> bool:
    """Return whether `encoder` is nano's, which has a matcher of its own."""
    return _header("matcher").encoder.matches(encoder)


def bundled_by_default(catalog: Catalog, encoder: Fingerprint) -> bool:
    """Return whether an index uses the bundled matcher unless it has another one.

    So it does with an encoder that has a name, which is an open_clip model. An encoder object of
    the user's own may embed anything, so there cosine is used until the user chooses.
    """
    return fits_nano(encoder) or isinstance(catalog.setting("clip"), str)


def bundled_matcher(catalog: Catalog, encoder: Fingerprint, device: str) -> Matcher:
    """Return the bundled matcher for an index: nano's, or the one that serves every encoder.

    The latter standardizes cosines by what the regions and labels of the index say about the
    encoder.
    """
    from .stored import load_stored

    own = nano_matcher(encoder, device)
    if own is not None:
        return own
    stored = load_stored(bundled_path("any-matcher"), device)
    return stored.for_encoder(encoder, catalog_scale(catalog)).prepared()


def nano_matcher(encoder: Fingerprint, device: str) -> Matcher | None:
    """Return nano's matcher, or None if `encoder` is not nano's."""
    from .stored import load_stored

    return load_stored(bundled_path("matcher"), device).prepared() if fits_nano(encoder) else None


@cache
def _header(kind: str) -> MatcherHeader:
    """Read a header once: an installed file does not change, and opening an index asks for it."""
    return read_header(bundled_path(kind))[0]
