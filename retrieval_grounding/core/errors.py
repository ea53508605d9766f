"""Errors that a user can act on: each message is one sentence that says what to do next."""

from __future__ import annotations

__all__ = [
    "ExpressionError",
    "GroundingError",
    "ImageError",
    "ModelError",
    "PhraseError",
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


class ExpressionError(GroundingError):
    """A file of expressions or predictions cannot be read, or nothing in it can be used."""


class StoreError(GroundingError):
    """An index is missing, damaged, or in a different format."""


class StoreLockedError(StoreError):
    """A different writer, in this process or in another one, is at work on the index."""
