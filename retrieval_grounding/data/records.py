"""Records: expressions as their files have them, not yet validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Record"]


@dataclass(frozen=True)
class Record:
    """One expression as its file has it, with the keys of the JSON lines format.

    Parameters
    ----------
    location : str
        Where it is in the file, for messages: ``"line 3"``.
    values : mapping
        ``image``, ``expression``, ``bbox_xywh`` or ``bbox_xyxy``, and any other keys.
    problem : str
        Short reason why the record cannot be read; empty if it can.
    """

    location: str
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
