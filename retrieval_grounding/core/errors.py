"""Errors that a user can act on: each message is one sentence that says what to do next."""

from __future__ import annotations

__all__ = [
    "ExpressionError",
    "FeedbackError",
    "GroundingError",
    "ImageError",
    "MetadataError",
    "ModelError",
    "PhraseError",
    "QueryError",
    "SourceError",
    "StoreError",
    "StoreLockedError",
]


class GroundingError(Exception):
    """Base class of every error that this package raises on purpose."""


class SourceError(GroundingError):
    """A folder, glob or list of images cannot be read or names no image."""


class ImageError(GroundingError):
    """An image cannot be used.

    Parameters
    ----------
    reason : str
        A fixed, short name such as ``"truncated"``, for counting and for scripts.
    detail : str
        What exactly was found, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ModelError(GroundingError):
    """Weights are missing, unreachable, of the wrong kind, or not the ones the index needs."""


class PhraseError(GroundingError, ValueError):
    """A phrase is empty or not text."""


class QueryError(GroundingError, ValueError):
    """A query, or a condition in it, cannot be understood.

    Parameters
    ----------
    problem : str
        What is wrong.
    text : str, optional
        The text that was read.
    position : int, optional
        Where in `text` the problem begins, counted from 0.
    """

    def __init__(self, problem: str, text: str | None = None, position: int | None = None) -> None:
        place = ""
        if text is not None and position is not None:
            rest = text[position : position + 20].split(" ")[0]
            where = f"at {rest!r}, character {position + 1}" if rest else "at its end"
            place = f" ({where} of {text[:200]!r})"
        super().__init__(problem + place)
        self.problem = problem
        self.text = text
        self.position = position


class ExpressionError(GroundingError):
    """A file of expressions or predictions cannot be read, or nothing in it can be used."""


class FeedbackError(GroundingError, ValueError):
    """A thumb cannot be stored or undone: its image, box, verdict or id is not usable."""


class MetadataError(GroundingError):
    """A file or a value of metadata cannot be used."""


class StoreError(GroundingError):
    """An index is missing, damaged, or in a different format."""


class StoreLockedError(StoreError):
    """A different writer, in this process or in another one, is at work on the index."""
