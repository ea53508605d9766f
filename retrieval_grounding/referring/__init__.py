"""Referring expressions: phrases with the box that they mean, read from files and found again."""

from __future__ import annotations

from .expressions import Expression, ExpressionSet, read_expressions
from .resolving import Resolved, resolve_images

__all__ = ["Expression", "ExpressionSet", "Resolved", "read_expressions", "resolve_images"]
