"""Reading a matcher's file as what it is: a trained network, or its blend with another matcher."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from .blend import BlendMatcher
from .matcher import Matcher
from .matcher_file import read_matcher_file
from .trained import TrainedMatcher

__all__ = ["load_stored", "network_of", "stored_bytes"]


def load_stored(path: Path, device: str, checksums: Collection[str] = ()) -> Matcher:
    """Read a matcher; see :meth:`.trained.TrainedMatcher.load` for parameters and errors."""
    stored = read_matcher_file(path, checksums)
    network = TrainedMatcher.of_file(stored, device, path)
    if stored.blend is None:
        return network
    spec = stored.blend
    # The probabilities in the file are those of the blend's scores.
    alone = replace(network, calibration=None)
    return BlendMatcher(alone, spec.other, spec.weight, spec.spreads, stored.calibration)


def stored_bytes(matcher: TrainedMatcher | BlendMatcher) -> bytes:
    """Return the content of a matcher's file."""
    if isinstance(matcher, TrainedMatcher):
        return matcher.as_bytes()
    network = network_of(matcher)
    assert network is not None  # only blends with a network are stored
    calibration = matcher.calibration
    return network.as_bytes(
        blend=matcher.spec.as_dict(),
        calibration=None if calibration is None else calibration.as_dict(),
    )


def network_of(matcher: Matcher | None) -> TrainedMatcher | None:
    """Return the trained network of a matcher, or None if it has none."""
    if isinstance(matcher, BlendMatcher):
        matcher = matcher.first
    return matcher if isinstance(matcher, TrainedMatcher) else None
