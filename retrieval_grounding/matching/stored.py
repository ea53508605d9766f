"""Reading and writing a matcher's file as what it is: a network, or a network with a recipe."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.errors import ModelError
from ..models.encoder import Fingerprint
from .anchored import AnchoredMatcher
from .blend import BlendMatcher
from .calibration import Calibration
from .matcher import Matcher
from .matcher_file import read_matcher_file
from .names import BUNDLED
from .recipe import Recipe
from .residual_model import cosine_scale_of
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

    def prepared(self, bundled: Matcher | None = None) -> Matcher:
        """Return the matcher, ready to score; see :func:`prepare`."""
        return prepare(self.network, self.recipe, self.calibration, bundled)

    def for_encoder(
        self, encoder: Fingerprint, scale: npt.NDArray[np.float32] | None
    ) -> StoredMatcher:
        """Return the matcher for embeddings of an encoder.

        What is blended in is taken to spread as cosines do, to regions and labels. Parameters and
        errors are those of :meth:`.trained.TrainedMatcher.for_encoder`.
        """
        network = self.network.for_encoder(encoder, scale)
        if network is self.network or scale is None:
            return self
        _, regions, _, labels = (scale / cosine_scale_of(self.network.model)).tolist()
        first, second = self.recipe.spreads
        recipe = replace(
            self.recipe,
            label_scale=self.recipe.label_scale * regions / labels,
            spreads=(first, second * regions),
        )
        return replace(self, network=network, recipe=recipe)


def load_stored(path: Path, device: str, checksums: Collection[str] = ()) -> StoredMatcher:
    """Read a matcher; see :meth:`.trained.TrainedMatcher.load` for parameters and errors."""
    header, model = read_matcher_file(path, checksums)
    network = TrainedMatcher.of_file(header, model, device, path)
    if header.recipe is None:
        return StoredMatcher(network, Recipe())
    # The probabilities in the file are those of the combination's scores.
    return StoredMatcher(replace(network, calibration=None), header.recipe, header.calibration)


def prepare(
    network: TrainedMatcher,
    recipe: Recipe,
    calibration: Calibration | None = None,
    bundled: Matcher | None = None,
) -> Matcher:
    """Return the matcher that a recipe makes of a network.

    Parameters
    ----------
    network : TrainedMatcher
        For the encoder of the index.
    recipe : Recipe
        What is combined with it.
    calibration : Calibration, optional
        Of the combination.
    bundled : Matcher, optional
        The bundled matcher for the same index, which may be the anchor.

    Raises
    ------
    ModelError
        If the anchor is the bundled matcher, which is not given.
    """
    inner: Matcher = network
    if recipe.weight:
        label, own = recipe.label_matcher, None if recipe.anchor else calibration
        inner = BlendMatcher(network, label, recipe.weight, recipe.spreads, own)
    if not recipe.anchor:
        return inner
    anchor = bundled if recipe.anchor == BUNDLED else recipe.label_matcher
    if anchor is None:
        raise ModelError(
            "the matcher ranks images by the bundled one, and must be given that of the index"
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
