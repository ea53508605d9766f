"""What people type for shares, numbers and dates: ``5%``, ``0.4``, ``2024-05``."""

from __future__ import annotations

import calendar
import re
from datetime import datetime
from decimal import Decimal

__all__ = ["date_range", "parse_number", "parse_share", "share_text", "shown_number"]


_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2}))?)?)?)?")
_NUMBER = re.compile(r"\d{1,400}(\.\d{0,400})?|\.\d{1,400}")


def date_range(text: str) -> tuple[str, str]:
    """Return the first and the last second of a year, month, day, minute or second.

    Both have the form ``2024-05-01T00:00:00``, so they sort as text.

    Raises
    ------
    ValueError
        If `text` is not a date.

    Examples
    --------
    >>> date_range("2024-02")
    ('2024-02-01T00:00:00', '2024-02-29T23:59:59')
    >>> date_range("2024-5-3")[0]
    '2024-05-03T00:00:00'
    """
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a date such as 2024, 2024-05 or 2024-05-31")
    given = [None if part is None else int(part) for part in match.groups()]
    year, month, day, hour, minute, second = given
    try:
        last_day = calendar.monthrange(year or 0, month or 12)[1]
        first = datetime(year or 0, month or 1, day or 1, hour or 0, minute or 0, second or 0)
        last = datetime(
            year or 0,
            month or 12,
            day or last_day,
            23 if hour is None else hour,
            59 if minute is None else minute,
            59 if second is None else second,
        )
    except ValueError as error:  # includes calendar.IllegalMonthError
        raise ValueError(f"there is no date {text!r}") from error
    return first.isoformat(), last.isoformat()


def parse_number(text: str) -> float:
    """Return a number that is not negative.

    Raises
    ------
    ValueError
        If `text` is not such a number.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not a number such as 0.4")
    return float(text)


def parse_share(text: str) -> float:
    """Return a share between 0 and 1, given as ``5%`` or ``0.05``.

    Raises
    ------
    ValueError
        If `text` is neither, or more than all.

    Examples
    --------
    >>> parse_share("5%"), parse_share("0.05")
    (0.05, 0.05)
    """
    try:
        value = parse_number(text.removesuffix("%"))
    except ValueError as error:
        raise ValueError(f"{text!r} is not a share such as 5% or 0.05") from error
    value = value / 100 if text.endswith("%") else value
    if value > 1:
        raise ValueError(f"{text!r} is more than 100%")
    return value


def share_text(share: float) -> str:
    """Return a share as text that :func:`parse_share` reads.

    >>> share_text(0.05), share_text(1 / 3)
    ('5%', '0.3333333333333333')
    """
    text = _plain(Decimal(repr(share)) * 100) + "%"
    return text if parse_share(text) == share else shown_number(share)


def shown_number(value: float) -> str:
    """Return a number as text that :func:`parse_number` reads, without an exponent.

    >>> shown_number(0.05), shown_number(20.0), shown_number(1e-7)
    ('0.05', '20', '0.0000001')
    """
    return _plain(Decimal(repr(float(value))))


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
