"""Measuring how well phrases are grounded in an index; no image file is read."""

from __future__ import annotations

from .measuring import evaluate
from .page import write_page
from .report import EvaluationReport

__all__ = ["EvaluationReport", "evaluate", "write_page"]
