"""Types that all rooms share."""

from __future__ import annotations

import os

__all__ = ["Box", "PathLike", "RowKey"]

PathLike = str | os.PathLike[str]

Box = tuple[float, float, float, float]
"""Corners ``x1, y1, x2, y2``."""

RowKey = tuple[int, int]
"""Shard number and row: where the regions of an image lie."""
