"""What the settings of a catalog may hold; docs/index-format.md says what they mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..core.strict_json import parse_json

__all__ = ["parse_setting"]

_MAX_TEXT = 4096
_MAX_ENTRIES = 32
_MAX_NUMBER = 1 << 53  # JSON's integers that every reader understands


def parse_setting(key: str, text: str) -> Any:
    """Return the value of a setting.

    Raises
    ------
    ValueError
        If `text` is not strict JSON, or not a value that `key` can have.
    """
    value = parse_json(text)
    check = _CHECKS.get(key)
    if check is not None and not check(value):
        raise ValueError(f"an impossible value of {key}")
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT and "\0" not in value


def _is_name(value: Any) -> bool:
    return value is None or _is_text(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX_NUMBER


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _MAX_NUMBER and math.isfinite(float(value))


def _is_texts(value: Any) -> bool:
    return _is_small(value) and all(map(_is_text, value.values()))


def _is_numbers(value: Any) -> bool:
    return _is_small(value) and all(
        number is None or _is_number(number) for number in value.values()
    )


def _is_detector_settings(value: Any) -> bool:
    """Return whether a value consists of numbers and, if they are there, a switch and names."""
    if not _is_small(value):
        return False
    numbers = {k: number for k, number in value.items() if k not in ("groups", "classes")}
    names = value.get("classes", [])
    return (
        isinstance(value.get("groups", False), bool)
        and _is_numbers(numbers)
        and (names is None or (isinstance(names, list) and all(map(_is_text, names))))
    )


def _is_small(value: Any) -> bool:
    return isinstance(value, dict) and len(value) <= _MAX_ENTRIES


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "format_version": lambda value: _is_count(value) and value > 0,
    "generation": _is_count,
    "dimension": _is_count,
    "preset": _is_name,
    "detector": _is_name,
    "clip": _is_name,
    "created_with": _is_name,
    "detector_fingerprint": _is_text,
    "encoder_fingerprint": _is_texts,
    "detector_settings": _is_detector_settings,
    "cosine_calibration": lambda value: value is None or _is_numbers(value),
    "thumbnails": lambda value: value is None or type(value) is bool,
    "calibrations": lambda value: (
        value is None or (_is_small(value) and all(map(_is_numbers, value.values())))
    ),
    "vectors": lambda value: value is None or isinstance(value, dict),
}
