"""What readers hand over: one record for each expression of a file, not yet checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Record"]


@dataclass(frozen=True)
class Record:
    """One expression as its file has it, with the keys of the JSONL form.

    Parameters
    ----------
    place : str
        Where it stands, for messages: ``"line 3"``.
    values : mapping
        ``image``, ``expression``, ``bbox_xywh`` or ``bbox_xyxy``, and what else the file knows.
    problem : str
        Short reason why there are no values; empty if there are.
    """

    place: str
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
