"""Matcher networks by their configuration."""

from __future__ import annotations

from .concat_model import ConcatModel
from .config import MatcherConfig
from .model import MatcherModel
from .residual_model import ResidualModel

__all__ = ["make_model"]


def make_model(config: MatcherConfig) -> MatcherModel:
    """Return an untrained network."""
    return ResidualModel(config) if config.kind == "residual" else ConcatModel(config)
