"""The images that a matcher was trained on, by their contents, and how they were split."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["TrainingImages"]


_DIGITS = 16  # 8 bytes tell apart any number of images that an index can hold
_HASHES = re.compile(rf"(?:[0-9a-f]{{{_DIGITS}}})*")


@dataclass(frozen=True)
class TrainingImages:
    """The contents of the images that a matcher was trained, validated and calibrated on.

    Parameters
    ----------
    training : frozenset of str
        The first 8 bytes of their content hashes, in hexadecimal. A fine-tuned matcher has those of
        the matcher that it started from as well.
    validation, calibration : frozenset of str
        Likewise; these images chose the epoch and fitted the probabilities.
    """

    training: frozenset[str]
    validation: frozenset[str] = frozenset()
    calibration: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, training: Iterable[str], validation: Iterable[str], calibration: Iterable[str]
    ) -> TrainingImages:
        """Return the record of images with these content hashes."""
        return cls(*(frozenset(map(_short, part)) for part in (training, validation, calibration)))

    def trained_on(self, content_hash: str) -> bool:
        """Return whether an image with this content was among the training images."""
        return _short(content_hash) in self.training

    def as_dict(self) -> dict[str, str]:
        """Return plain values, for JSON: hashes in order, without separators."""
        return {name: "".join(sorted(part)) for name, part in asdict(self).items()}

    @classmethod
    def from_dict(cls, value: Any) -> TrainingImages:
        """Return the record of :meth:`as_dict`.

        Raises
        ------
        ValueError
            If a value is not a row of hashes.
        """
        parts = []
        for field in fields(cls):
            text = value[field.name]
            if not isinstance(text, str) or not _HASHES.fullmatch(text):
                raise ValueError(f"its {field.name} images are not hashes")
            hashes = (text[start : start + _DIGITS] for start in range(0, len(text), _DIGITS))
            parts.append(frozenset(hashes))
        return cls(*parts)


def _short(content_hash: str) -> str:
    return content_hash[:_DIGITS]
