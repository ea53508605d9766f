"""Grouping hits: near-duplicates are folded, and diverse hits are preferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..core.photo import Photo
from ..core.query.text import Grouping

__all__ = ["Face", "Group", "fold", "is_near", "most_diverse"]


Relation = Literal["near", "burst"]

_NEAR = ((10, 0.75), (20, 0.94))
"""Bits that may differ, and the cosine that it takes then; docs/performance.md has the measurement.
Resized copies keep the hash, cropped ones the cosine."""

_EDGES = 12
_NEAR_IF_FLAT = (10, 0.94)
"""For pictures with fewer bits set: they have few edges, so that their hashes say little."""

_NEAR_COSINE_ALONE = 0.985
_BURST_SECONDS = 10
_BURST_COSINE = 0.85
_RELEVANCE = 0.7


@dataclass(frozen=True)
class Face:
    """What is compared of an image.

    Parameters
    ----------
    embedding : float32 array of shape (d,)
        Of the whole image, unit length.
    photo : Photo
        When and with what it was taken, and its perceptual hash.
    """

    embedding: npt.NDArray[np.float32]
    photo: Photo


@dataclass
class Group:
    """An image and those that are folded into it.

    Parameters
    ----------
    number : int
        The best of them.
    others : list of (int, str)
        The others, and whether each is a ``"near"`` duplicate or of the same ``"burst"``.
    """

    number: int
    others: list[tuple[int, Relation]] = field(default_factory=list)


def fold(faces: Sequence[Face], kind: Grouping) -> list[Group]:
    """Group images that show the same, each with the first of its group.

    Parameters
    ----------
    faces : sequence of Face
        Best first. They are different contents, so ``"copies"`` folds none of them.
    kind : str
        ``"copies"``, ``"near"`` or ``"bursts"``.
    """
    groups: list[Group] = []
    for number, face in enumerate(faces):
        for group in groups:
            relation = _relation(faces[group.number], face) if kind != "copies" else None
            if relation == "near" or (relation == "burst" and kind == "bursts"):
                group.others.append((number, relation))
                break
        else:
            groups.append(Group(number))
    return groups


def _relation(first: Face, second: Face) -> Relation | None:
    cosine = float(first.embedding @ second.embedding)
    if first.photo.looks and second.photo.looks:
        if is_near(int(first.photo.looks, 16), int(second.photo.looks, 16), cosine):
            return "near"
    elif cosine >= _NEAR_COSINE_ALONE:
        return "near"
    if cosine < _BURST_COSINE or first.photo.camera != second.photo.camera:
        return None
    if not first.photo.taken or not second.photo.taken:
        return None
    apart = datetime.fromisoformat(first.photo.taken) - datetime.fromisoformat(second.photo.taken)
    return "burst" if abs(apart.total_seconds()) <= _BURST_SECONDS else None


def is_near(first: int, second: int, cosine: float) -> bool:
    """Return whether two images are near-duplicates, by their hashes and their cosine.

    >>> busy = 0x0F0F_3C3C_5A5A_6969
    >>> is_near(busy, busy, 0.8), is_near(busy, busy, 0.6), is_near(busy, busy ^ 0xFFFF, 0.96)
    (True, False, True)
    >>> is_near(0b11, 0b11, 0.8)
    False
    """
    bits = (first ^ second).bit_count()
    is_flat = min(first.bit_count(), second.bit_count()) < _EDGES
    rules = (_NEAR_IF_FLAT,) if is_flat else _NEAR
    return any(bits <= most and cosine >= least for most, least in rules)


def most_diverse(
    relevance: npt.NDArray[np.float32], embeddings: npt.NDArray[np.float32], count: int
) -> list[int]:
    """Choose candidates that are relevant and unlike those before them.

    This is maximal marginal relevance (Carbonell and Goldstein, 1998): each step takes the
    candidate with the largest ``0.7 · relevance - 0.3 · largest cosine with one that was taken``.

    Parameters
    ----------
    relevance : float32 array of shape (n,)
        Between 0 and 1.
    embeddings : float32 array of shape (n, d)
        Unit length.
    count : int
        How many to choose.

    Returns
    -------
    list of int
        In the order in which they were chosen.

    Examples
    --------
    >>> rows = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    >>> most_diverse(np.array([1.0, 0.9, 0.8], np.float32), rows, 2)
    [0, 2]
    """
    chosen: list[int] = []
    left = np.ones(len(relevance), bool)
    nearest = np.zeros(len(relevance), np.float32)
    while len(chosen) < count and left.any():
        value = _RELEVANCE * relevance - (1 - _RELEVANCE) * nearest
        best = int(np.argmax(np.where(left, value, -np.inf)))
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, embeddings @ embeddings[best])
    return chosen
