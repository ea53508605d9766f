"""Text for messages: numbers with their nouns."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    >>> counted(1, "image"), counted(0, "shard"), counted(1253, "region")
    ('1 image', '0 shards', '1,253 regions')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
