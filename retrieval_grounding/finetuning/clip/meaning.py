"""What phrases mean, as far as it decides whether a phrase may also fit a region of another image.

A region of another image is a wrong answer only if it does not show what the phrase means, and
nobody has said for most regions what they show. So whatever might fit is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ...core.colors import COLORS
from ...matching.language.parse import parse_phrase
from ...matching.language.words import singular, words_of
from ...matching.pseudo.meanings import classes_meant

__all__ = ["Facts", "Shown", "content_words", "facts_of", "may_fit"]

_FUNCTION_WORDS = frozenset("a an the of his her their some this that one ,".split())


@dataclass(frozen=True)
class Facts:
    """What a phrase says.

    Parameters
    ----------
    head : str
        Singular of the target's noun; empty without one.
    classes : frozenset of str
        Class names that the noun may mean.
    colors : frozenset of int
        Basic colors that are named.
    words : frozenset of str
        Singulars of all words but articles and the like.
    """

    head: str
    classes: frozenset[str]
    colors: frozenset[int]
    words: frozenset[str]


@lru_cache(maxsize=1 << 18)
def facts_of(phrase: str) -> Facts:
    """Return what a phrase says.

    Examples
    --------
    >>> facts = facts_of("two men in red shirts")
    >>> facts.head, sorted(facts.classes), sorted(facts.words)
    ('man', ['man', 'person'], ['in', 'man', 'red', 'shirt', 'two'])
    """
    parts = parse_phrase(phrase)
    noun = [singular(word) for word in words_of(parts.noun)] if parts.named else []
    names = {" ".join(noun), *noun[-1:]} - {""}
    return Facts(
        head=noun[-1] if noun else "",
        classes=frozenset().union(*map(classes_meant, names)),
        colors=frozenset(parts.colors),
        words=content_words(phrase),
    )


def content_words(text: str) -> frozenset[str]:
    """Return the singulars of the words of a text but for articles and the like."""
    return frozenset(map(singular, words_of(text))) - _FUNCTION_WORDS


@dataclass(frozen=True)
class Shown:
    """What is known of the regions of a batch.

    Parameters
    ----------
    images : int array of shape (n,)
        Number of each region's image in the batch.
    labels : sequence of n str
        Class that the detector is sure of, else empty.
    phrases : list of n list of str
        What people said of each region.
    said : sequence of frozenset of str
        All words that people said of each image.
    """

    images: npt.NDArray[np.int64]
    labels: Sequence[str]
    phrases: list[list[str]]
    said: Sequence[frozenset[str]]


def may_fit(
    phrases: Sequence[str], own: npt.NDArray[np.int64], shown: Shown
) -> npt.NDArray[np.bool_]:
    """Return whether a phrase may fit a region of an image other than its own.

    It may if the region has a label that the phrase's noun may mean, or if somebody used the noun
    or all of the phrase's words for it, unless another color was said. A region of which nothing is
    known may show what its image does.

    Parameters
    ----------
    phrases : sequence of m str
        Phrases of the batch.
    own : int array of shape (m,)
        Number of each phrase's own image.
    shown : Shown
        What is known of the regions.

    Returns
    -------
    bool array of shape (m, n)
        False for regions of the phrase's own image.
    """
    facts = [facts_of(phrase) for phrase in phrases]
    names = sorted({name for name in shown.labels if name})
    column = {name: number for number, name in enumerate(names)}
    wanted = _one_hot(
        [[column[name] for name in fact.classes if name in column] for fact in facts], len(names)
    )
    has_label = _one_hot([[column[name]] if name else [] for name in shown.labels], len(names))
    fits: npt.NDArray[np.bool_] = wanted @ has_label.T > 0

    texts = sorted({text for several in shown.phrases for text in several})
    places = {text: place for place, text in enumerate(texts)}
    described = _one_hot([[places[t] for t in several] for several in shown.phrases], len(texts))
    others = [facts_of(text) for text in texts]
    alike = np.array(
        [[fact.head == other.head or fact.words <= other.words for other in others]
         for fact in facts], np.float32,
    ).reshape(len(facts), len(texts))  # fmt: skip
    fits |= alike @ described.T > 0

    named = _one_hot([fact.colors for fact in facts], len(COLORS))
    seen = described @ _one_hot([other.colors for other in others], len(COLORS))
    both = np.outer(named.sum(axis=1), seen.sum(axis=1)) > 0
    fits &= ~(both & (named @ seen.T == 0))

    unknown = has_label.sum(axis=1) + described.sum(axis=1) == 0
    count = len(shown.said)
    present = np.zeros((count, len(names)), np.float32)
    np.maximum.at(present, shown.images, has_label)
    spoken = np.array([[fact.head in words for words in shown.said] for fact in facts], bool)
    somewhere: npt.NDArray[np.bool_] = np.logical_or(
        spoken.reshape(-1, count), wanted @ present.T > 0
    )
    fits |= unknown[None] & somewhere[:, shown.images]
    fits &= own[:, None] != shown.images[None]
    return fits


def _one_hot(members: Sequence[Iterable[int]], width: int) -> npt.NDArray[np.float32]:
    rows = np.zeros((len(members), width), np.float32)
    for row, columns in zip(rows, members, strict=True):
        row[list(columns)] = 1
    return rows
