"""Strict JSON: without NaN and infinity, which Python accepts and others do not."""

from __future__ import annotations

import json
from typing import Any, NoReturn

__all__ = ["json_text", "parse_json"]


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    ValueError
        If it is not JSON, contains NaN or infinity, or is nested too deeply.

    Examples
    --------
    >>> parse_json('{"scores": [1, 0.5]}')
    {'scores': [1, 0.5]}
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def json_text(value: Any, **options: Any) -> str:
    """Return a value as JSON; `options` are those of :func:`json.dumps`.

    Raises
    ------
    ValueError
        If it contains NaN or infinity.
    """
    return json.dumps(value, allow_nan=False, **options)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
