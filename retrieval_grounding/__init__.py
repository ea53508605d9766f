"""Find the region a phrase refers to, in a whole collection of images.

Names are imported when they are first used, so that ``import retrieval_grounding`` is instant.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from .core.threads import shorten_spinning
from .core.version import __version__

shorten_spinning()

_HOMES = {
    "BuildInterrupted": "core.reports",
    "BuildOptions": "core.reports",
    "BuildReport": "core.reports",
    "Calibration": "matching.calibration",
    "ClipTuning": "finetuning.clip.report",
    "ClipTuningOptions": "finetuning.clip.options",
    "CompactReport": "core.reports",
    "CosineMatcher": "matching.matcher",
    "Detector": "models.detector",
    "DetectorSettings": "models.detector",
    "Encoder": "models.encoder",
    "EvaluationReport": "evaluation.report",
    "Example": "core.query.examples",
    "Explanation": "core.explanation",
    "Expression": "data.expressions",
    "ExpressionError": "core.errors",
    "ExpressionSet": "data.expressions",
    "Fault": "core.reports",
    "FeedbackEntry": "core.feedback",
    "FeedbackError": "core.errors",
    "Filters": "core.query.filters",
    "Fingerprint": "models.encoder",
    "GroundingError": "core.errors",
    "Hit": "core.hits",
    "Hits": "search.hits",
    "ImageError": "core.errors",
    "Index": "index",
    "MIN_PROBABILITY": "core.hits",
    "Matcher": "matching.matcher",
    "MetadataError": "core.errors",
    "ModelError": "core.errors",
    "PRESETS": "models.presets",
    "PhraseError": "core.errors",
    "Phrases": "core.phrases",
    "Query": "core.query.value",
    "QueryError": "core.errors",
    "ReembedReport": "indexing.reembed_switch",
    "RegionTable": "core.region_table",
    "Regions": "core.regions",
    "SourceError": "core.errors",
    "Similar": "core.hits",
    "StoreError": "core.errors",
    "StoreLockedError": "core.errors",
    "TrainingOptions": "matching.options",
    "VerifyReport": "core.reports",
    "YoloTuning": "finetuning.yolo.report",
    "YoloTuningOptions": "finetuning.yolo.options",
    "build": "builder",
    "connect": "service.client",
    "find_images": "data.sources",
    "finetune_clip": "finetuning.clip.run",
    "finetune_yolo": "finetuning.yolo.run",
    "ground": "search.ground",
    "load_detector": "models.yolo",
    "load_encoder": "models.clip",
    "load_image": "data.images",
    "pairwise_iou": "core.regions",
    "preview_build": "builder",
    "read_expressions": "data.expressions",
    "render_html": "search.html_page",
    "with_groups": "core.groups",
}

__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604

# An application that configures no logging hears nothing of this library.
logging.getLogger(__name__).addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from .builder import build, preview_build
    from .core.errors import (
        ExpressionError,
        FeedbackError,
        GroundingError,
        ImageError,
        MetadataError,
        ModelError,
        PhraseError,
        QueryError,
        SourceError,
        StoreError,
        StoreLockedError,
    )
    from .core.explanation import Explanation
    from .core.feedback import FeedbackEntry
    from .core.groups import with_groups
    from .core.hits import MIN_PROBABILITY, Hit, Similar
    from .core.phrases import Phrases
    from .core.query.examples import Example
    from .core.query.filters import Filters
    from .core.query.value import Query
    from .core.region_table import RegionTable
    from .core.regions import Regions, pairwise_iou
    from .core.reports import (
        BuildInterrupted,
        BuildOptions,
        BuildReport,
        CompactReport,
        Fault,
        VerifyReport,
    )
    from .data.expressions import Expression, ExpressionSet, read_expressions
    from .data.images import load_image
    from .data.sources import find_images
    from .evaluation.report import EvaluationReport
    from .finetuning.clip.options import ClipTuningOptions
    from .finetuning.clip.report import ClipTuning
    from .finetuning.clip.run import finetune_clip
    from .finetuning.yolo.options import YoloTuningOptions
    from .finetuning.yolo.report import YoloTuning
    from .finetuning.yolo.run import finetune_yolo
    from .index import Index
    from .indexing.reembed_switch import ReembedReport
    from .matching.calibration import Calibration
    from .matching.matcher import CosineMatcher, Matcher
    from .matching.options import TrainingOptions
    from .models.clip import load_encoder
    from .models.detector import Detector, DetectorSettings
    from .models.encoder import Encoder, Fingerprint
    from .models.presets import PRESETS
    from .models.yolo import load_detector
    from .search.ground import ground
    from .search.hits import Hits
    from .search.html_page import render_html
    from .service.client import connect


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
