"""Answers as strict JSON, whatever is in an index."""

from __future__ import annotations

import math
from typing import Any

from fastapi.responses import Response

from ...core.strict_json import json_text

__all__ = ["json_answer"]


def json_answer(value: Any, status: int = 200) -> Response:
    """Return plain values as an answer.

    Numbers that are not finite become null, and bytes of a path that are not UTF-8 are escaped.
    """
    try:
        text = json_text(value, ensure_ascii=False, separators=(",", ":"))
    except ValueError:
        text = json_text(_finite(value), ensure_ascii=False, separators=(",", ":"))
    data = text.encode("utf-8", "backslashreplace")
    return Response(data, status, media_type="application/json")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
