"""Find the region a phrase refers to, in a whole collection of images.

Names are imported when they are first used, so that ``import retrieval_grounding`` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "BuildInterrupted": "errors",
    "BuildOptions": "building",
    "BuildReport": "building",
    "CompactReport": "maintaining",
    "Detector": "detectors",
    "DetectorSettings": "detectors",
    "Encoder": "encoders",
    "EvaluationReport": "evaluation",
    "ExpressionError": "errors",
    "GroundingError": "errors",
    "Hit": "hits",
    "ImageError": "errors",
    "Index": "index",
    "ModelError": "errors",
    "PRESETS": "presets",
    "PhraseError": "errors",
    "Regions": "regions",
    "SourceError": "errors",
    "StoreError": "errors",
    "StoreLockedError": "errors",
    "Fault": "verifying",
    "VerifyReport": "verifying",
    "build": "making",
    "find_images": "images",
    "ground": "grounding",
    "load_detector": "detectors",
    "load_encoder": "encoders",
    "load_image": "images",
    "pairwise_iou": "regions",
    "preview_build": "making",
    "render_html": "rendering",
}

__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604

if TYPE_CHECKING:
    from .building import BuildOptions, BuildReport
    from .detectors import Detector, DetectorSettings, load_detector
    from .encoders import Encoder, load_encoder
    from .errors import (
        BuildInterrupted,
        ExpressionError,
        GroundingError,
        ImageError,
        ModelError,
        PhraseError,
        SourceError,
        StoreError,
        StoreLockedError,
    )
    from .evaluation import EvaluationReport
    from .grounding import ground
    from .hits import Hit
    from .images import find_images, load_image
    from .index import Index
    from .maintaining import CompactReport
    from .making import build, preview_build
    from .presets import PRESETS
    from .regions import Regions, pairwise_iou
    from .rendering import render_html
    from .verifying import Fault, VerifyReport


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
