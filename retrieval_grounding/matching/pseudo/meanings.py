"""Which classes of a detector a noun may mean."""

from __future__ import annotations

from ..language.lexicon import PEOPLE
from .templates import NOUNS

__all__ = ["classes_meant"]


_CLASSES: dict[str, frozenset[str]] = {}
for _labels, _nouns in NOUNS.items():
    for _noun in _nouns:
        _CLASSES[_noun] = _CLASSES.get(_noun, frozenset()) | _labels


def classes_meant(noun: str) -> frozenset[str]:
    """Return the class names that a noun in the singular may mean, and the noun itself.

    Examples
    --------
    >>> sorted(classes_meant("plane")), sorted(classes_meant("teacher"))
    (['airplane', 'plane'], ['person', 'teacher'])
    """
    classes = _CLASSES.get(noun, frozenset())
    return classes | {noun, "person"} if noun in PEOPLE else classes | {noun}
