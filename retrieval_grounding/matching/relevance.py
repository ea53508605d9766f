"""Which other images may show what a phrase describes, so that finding them is no mistake."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from .pseudo.templates import NOUNS

__all__ = ["ABSENT", "SHOWN", "UNKNOWN", "content_words", "head_word", "relevance"]


ABSENT, UNKNOWN, SHOWN = 0, -1, 1
"""What is known of a phrase and an image: not shown, not known, shown."""

_FEW_WORDS = 1 / 3
_PEOPLE = frozenset(
    "person people man woman boy girl child kid baby toddler guy lady gentleman adult teen "
    "teenager someone somebody player skier snowboarder surfer rider biker cyclist skater "
    "skateboarder worker runner dancer swimmer climber crowd group couple friend family team human "
    "male female individual pedestrian hiker performer musician singer he she him her they".split()
)
_FUNCTION_WORDS = frozenset(
    "a an the this that these those my your his her its their our some any one of in on at to from "
    "by with and or is are was were be being for as it there while who which very left right top "
    "bottom front back side middle near far next".split()
)
_SEPARATORS = re.compile(
    r"(?<=.)\b(?:in|on|with|of|at|by|from|near|behind|next|under|over|and|that|who|which|for|to|"
    r"(?!building|clothing|swing|ring|string|wing|painting|railing|ceiling|king)\w{2,}ing)\b"
)
_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot",
    "teeth": "tooth", "mice": "mouse", "geese": "goose", "wolves": "wolf", "knives": "knife",
    "leaves": "leaf", "grey": "gray", "bike": "bicycle", "bikes": "bicycle", "couch": "sofa",
    "automobile": "car", "phone": "telephone", "cellphone": "telephone", "television": "tv",
    "motorbike": "motorcycle", "photo": "picture", "aeroplane": "airplane", "plane": "airplane",
}  # fmt: skip


def relevance(
    phrases: Sequence[str],
    descriptions: Sequence[Iterable[str]],
    labels: Sequence[Iterable[str]],
) -> npt.NDArray[np.int8]:
    """Say for each phrase and image whether the image shows what the phrase describes.

    An image shows it if one of its descriptions has all words of the phrase. If descriptions and
    detected classes have neither the phrase's noun nor most of its words, it does not. Otherwise
    nothing is known: nobody mentions everything that an image shows.

    Parameters
    ----------
    phrases : sequence of p str
        What is looked for.
    descriptions : sequence of n iterables of str
        What is known to be in each image, in words.
    labels : sequence of n iterables of str
        The classes of the objects detected in each image.

    Returns
    -------
    int8 array of shape (p, n)
        :data:`SHOWN`, :data:`ABSENT` or :data:`UNKNOWN`.

    Examples
    --------
    >>> relevance(
    ...     ["a red car"], [["the red car"], ["a street"], ["a tree"]], [[], ["car"], ["dog"]]
    ... ).tolist()
    [[1, -1, 0]]
    """
    wordings = [[frozenset(content_words(text)) for text in texts] for texts in descriptions]
    known = [
        frozenset().union(*own, *(_words_of_class(label) for label in found))
        for own, found in zip(wordings, labels, strict=True)
    ]
    with_word: dict[str, npt.NDArray[np.bool_]] = {}
    for word in {word for phrase in phrases for word in content_words(phrase)}:
        alike = _PEOPLE if word in _PEOPLE else frozenset([word])
        with_word[word] = np.array([not alike.isdisjoint(words) for words in known], bool)
    found = np.full((len(phrases), len(known)), UNKNOWN, np.int8)
    for row, phrase in enumerate(phrases):
        words = content_words(phrase)
        if not words:
            continue
        present = np.array([with_word[word] for word in words])
        lacking = ~with_word[head_word(phrase)] & (present.mean(axis=0) <= _FEW_WORDS)
        found[row, lacking] = ABSENT
        wanted = frozenset(words)
        for image in np.flatnonzero(present.all(axis=0)).tolist():
            if any(wanted <= wording for wording in wordings[image]):
                found[row, image] = SHOWN
    return found


def content_words(text: str) -> list[str]:
    """Return the words of a text that carry meaning, in the singular.

    Examples
    --------
    >>> content_words("Two dogs on the grass")
    ['two', 'dog', 'grass']
    """
    words = re.findall(r"[a-z0-9]+", text.lower())
    return [_singular(word) for word in words if word not in _FUNCTION_WORDS]


def head_word(phrase: str) -> str:
    """Return the noun of what a phrase describes; empty if it has no word with a meaning.

    It is the last word before a preposition or a participle, or an earlier one for people.

    Examples
    --------
    >>> [head_word(p) for p in ("a red double decker bus", "dogs running on grass", "the man left")]
    ['bus', 'dog', 'man']
    """
    first = _SEPARATORS.split(phrase.lower().strip(), maxsplit=1)[0]
    words = content_words(first) or content_words(phrase)
    return next((word for word in words if word in _PEOPLE), words[-1] if words else "")


@cache
def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if re.search(r"(ss|us|is)$", word):
        return word
    if re.search(r"(ch|sh|x|ss)es$", word):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") else word


@cache
def _words_of_class(label: str) -> frozenset[str]:
    """Return the words for objects of a class."""
    nouns = [label, *(noun for labels, text in NOUNS.items() if label in labels for noun in text)]
    return frozenset(word for noun in nouns for word in content_words(noun))
