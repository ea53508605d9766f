"""Reading and writing a matcher's file as what it is: a network, or a network with a recipe."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import ModelError
from .anchored import AnchoredMatcher
from .blend import BlendMatcher
from .bundled import bundled_matcher
from .calibration import Calibration
from .matcher import Matcher
from .matcher_file import read_matcher_file
from .names import BUNDLED
from .recipe import Recipe
from .trained import TrainedMatcher

__all__ = ["StoredMatcher", "load_stored", "network_of", "prepare"]


@dataclass(frozen=True)
class StoredMatcher:
    """A network and its recipe: what a file holds.

    Parameters
    ----------
    network : TrainedMatcher
        Its calibration is that of its own scores.
    recipe : Recipe
        What is combined with it.
    calibration : Calibration or None
        Of the combination; None if that is anchored to the bundled matcher, which has its own.
    """

    network: TrainedMatcher
    recipe: Recipe
    calibration: Calibration | None = None

    def as_bytes(self) -> bytes:
        """Return the content of a matcher's file."""
        if self.recipe.is_plain:
            return self.network.as_bytes()
        calibration = None if self.calibration is None else self.calibration.as_dict()
        return self.network.as_bytes(recipe=self.recipe.as_dict(), calibration=calibration)

    def prepared(self) -> Matcher:
        """Return the matcher, ready to score; see :func:`prepare`."""
        return prepare(self.network, self.recipe, self.calibration)


def load_stored(path: Path, device: str, checksums: Collection[str] = ()) -> StoredMatcher:
    """Read a matcher; see :meth:`.trained.TrainedMatcher.load` for parameters and errors."""
    header, model = read_matcher_file(path, checksums)
    network = TrainedMatcher.of_file(header, model, device, path)
    if header.recipe is None:
        return StoredMatcher(network, Recipe())
    # The probabilities in the file are those of the combination's scores.
    return StoredMatcher(replace(network, calibration=None), header.recipe, header.calibration)


def prepare(
    network: TrainedMatcher, recipe: Recipe, calibration: Calibration | None = None
) -> Matcher:
    """Return the matcher that a recipe makes of a network.

    Raises
    ------
    ModelError
        If its anchor is the bundled matcher, which does not fit the network's encoder.
    """
    inner: Matcher = network
    if recipe.weight:
        label, own = recipe.label_matcher, None if recipe.anchor else calibration
        inner = BlendMatcher(network, label, recipe.weight, recipe.spreads, own)
    if not recipe.anchor:
        return inner
    anchor: Matcher | None = recipe.label_matcher
    if recipe.anchor == BUNDLED:
        anchor = bundled_matcher(network.encoder, str(network.device))
    if anchor is None:
        raise ModelError(
            f"the matcher needs the bundled one, which does not fit {network.encoder}; train it "
            "again with 'retrieval-grounding train'"
        )
    calibration = calibration or getattr(anchor, "calibration", None)
    return AnchoredMatcher(anchor, inner, recipe.anchor_spreads, calibration)


def network_of(matcher: Matcher | None) -> TrainedMatcher | None:
    """Return the trained network of a matcher, or None if it has none."""
    if isinstance(matcher, AnchoredMatcher):
        matcher = matcher.inner
    if isinstance(matcher, BlendMatcher):
        matcher = matcher.first
    return matcher if isinstance(matcher, TrainedMatcher) else None
