"""Which images of a batch certainly do not show what a phrase describes, and a choice of them.

On photographs of daily life, a random other image shows what a phrase means in a third of all
cases. Taken for a negative, it would teach the network to doubt what is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from ..core.colors import COLORS
from ..core.groups import MIN_MEMBER_SCORE
from .batch import ImageBatch
from .contrasts import words_said
from .dataset import Examples
from .language.parse import parse_phrase
from .language.parts import PhraseParts
from .language.words import singular
from .phrase_batch import NOUN, PhraseBatch
from .pseudo.meanings import classes_meant

__all__ = ["LabelMeanings", "Mentions", "choose_negatives", "may_show"]


_SAME_MEANING = 0.55  # of the way from two unrelated nouns to twice the same
_COLOR_SHARE = 0.06
_SENTENCE = 7  # words, from which a statement says more than that there is such a thing
_SAMPLE = 1000  # nouns, to measure how similar unrelated ones are
_MAX_BASELINE = 0.95


class Mentions:
    """What the examples say about images: words, and colors.

    Parameters
    ----------
    examples : Examples
        e examples; all that are known about their images.
    read : callable, optional
        Returns the parts of the phrase in a row of ``examples.phrases``.
    """

    def __init__(
        self, examples: Examples, read: Callable[[int], PhraseParts] | None = None
    ) -> None:
        count = len(examples.phrases)
        ids: dict[str, int] = {}
        self._noun = np.full(count, -1, np.int64)
        self._sentence = np.zeros(count, bool)
        colors = np.zeros((count, len(COLORS)), bool)
        said: dict[int, list[int]] = {}
        for row in np.unique(examples.phrase).tolist():
            text = examples.phrases.texts[row]
            parts = parse_phrase(text) if read is None else read(row)
            words = words_said(text)
            said[row] = [ids.setdefault(word, len(ids)) for word in sorted(words)]
            colors[row, list(parts.colors)] = True
            self._sentence[row] = len(parts.words) >= _SENTENCE
            if parts.named:
                noun = singular(parts.noun.split()[-1])
                self._noun[row] = ids.setdefault(noun, len(ids))
        self.words = list(ids)
        images = int(examples.image.max(initial=-1)) + 1
        self._colors = np.zeros((images, len(COLORS)), bool)
        np.logical_or.at(self._colors, examples.image, colors[examples.phrase])
        spoken = [said[row] for row in examples.phrase.tolist()]
        of_image = np.repeat(examples.image, list(map(len, spoken))).astype(np.int64)
        numbers = np.array([word for words in spoken for word in words], np.int64)
        pairs: npt.NDArray[np.int64] = np.unique(np.stack([of_image, numbers]), axis=1)
        self._said = pairs[1]
        self._starts = np.searchsorted(pairs[0], np.arange(images + 1))
        self.baseline = _baseline(examples)

    def nouns(self, phrases: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the number of each phrase's noun among `words`, -1 without one."""
        return self._noun[phrases]

    def sentences(self, phrases: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return whether each phrase has the length of a sentence."""
        return self._sentence[phrases]

    def said(
        self, images: npt.NDArray[np.int64], words: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Return whether words, (e,), are said about images, (m,): bool (e, m); -1 never is."""
        starts = self._starts[images]
        counts = self._starts[images + 1] - starts
        rows = np.repeat(np.arange(len(images)), counts)
        places = np.arange(len(rows)) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        table = np.zeros((len(self.words) + 1, len(images)), bool)
        table[self._said[places], rows] = True
        said: npt.NDArray[np.bool_] = table[words]
        return said

    def colors(self, images: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which colors are said to be in images, (m, 11)."""
        return self._colors[images]


def _baseline(examples: Examples) -> float:
    """Return the mean cosine of different nouns, which differs between encoders."""
    parts = examples.phrases.parts
    table = examples.phrases.embeddings if parts is None else parts[:, NOUN - 1]
    nouns = np.unique(np.asarray(table[:_SAMPLE], np.float32), axis=0)
    nouns = nouns[nouns.any(axis=1)]
    if len(nouns) < 2:
        return 0.0
    cosines = (np.square(nouns.sum(axis=0)).sum() - len(nouns)) / (len(nouns) * (len(nouns) - 1))
    return float(np.clip(cosines, 0, _MAX_BASELINE))


class LabelMeanings:
    """Which nouns may mean which labels, as a table that grows with the labels met.

    Parameters
    ----------
    nouns : sequence of w str
        In the singular.
    """

    def __init__(self, nouns: Sequence[str]) -> None:
        self._meant = [classes_meant(noun) for noun in nouns]
        self._table = np.zeros((len(nouns) + 1, 0), bool)  # the last row is for no noun

    def table(self, labels: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return whether each noun may mean each of k labels, (w + 1, k)."""
        known = self._table.shape[1]
        if len(labels) > known:
            columns = [self._column(label) for label in labels[known:]]
            self._table = np.concatenate([self._table, np.stack(columns, 1)], axis=1)
        return self._table[:, : len(labels)]

    def _column(self, label: str) -> npt.NDArray[np.bool_]:
        names = {label.lower(), singular(label.lower().split(" ")[-1])}
        return np.array([bool(names & meant) for meant in self._meant] + [False])


@torch.no_grad()
def may_show(
    said: torch.Tensor,
    said_colors: torch.Tensor,
    fits: torch.Tensor,
    phrases: PhraseBatch,
    images: ImageBatch,
    own: torch.Tensor,
    whole: torch.Tensor,
    baseline: float,
) -> torch.Tensor:
    """Return whether an image may show what a phrase describes, bool (e, m).

    It may if a detected label is what the noun means, or the noun, or one with the same meaning, is
    among the words said about the image. It does not if the phrase names a color that no region of
    such a label has, and nobody says so. A sentence without a box is about its own image.

    Parameters
    ----------
    said : bool tensor of shape (e, m)
        Whether the phrases' nouns are said about the images; see :meth:`Mentions.said`.
    said_colors : bool tensor of shape (m, 11)
        Colors that are said to be in the images.
    fits : bool tensor of shape (e, k)
        Whether the nouns may mean the labels; see :class:`LabelMeanings`.
    phrases : PhraseBatch
        e phrases.
    images : ImageBatch
        m images.
    own : float tensor of shape (e, m)
        1 for the image that a phrase is about.
    whole : bool tensor of shape (e,)
        Whether a phrase is a sentence without a box.
    baseline : float
        See :class:`Mentions`.
    """
    nouns = phrases.parts[:, NOUN]
    alike = _same_meaning(nouns @ nouns.T, baseline)
    said = said | (alike.to(own.dtype) @ own > 0)

    fits = fits | _same_meaning(nouns @ images.label_embeddings.T, baseline)
    detected = images.present & (images.scores >= MIN_MEMBER_SCORE)
    classes = images.classes
    meant = fits.index_select(1, classes.flatten()).view(-1, *classes.shape) & detected
    shown = meant.any(-1)

    named = phrases.colors.any(1)
    colored = torch.einsum("ec,mnc->emn", phrases.colors, images.colors) >= _COLOR_SHARE
    has_said_color = phrases.colors @ said_colors.to(phrases.colors.dtype).T > 0
    has_color = (meant & colored).any(-1) | has_said_color
    possible = (said | shown) & ~(named[:, None] & shown & ~has_color)
    return (possible & ~whole[:, None]) | (own > 0)


def choose_negatives(
    excluded: torch.Tensor, count: int, priority: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose up to `count` images for each of e examples.

    Parameters
    ----------
    excluded : bool tensor of shape (e, m)
        Images that are not chosen.
    count : int
        How many to choose, if there are that many.
    priority : float tensor of shape (e, m)
        Random numbers from 0 to 1: the images with the highest are chosen.

    Returns
    -------
    images : int64 tensor of shape (e, k)
        Numbers of images, all different in a row; k is at most `count`.
    chosen : bool tensor of shape (e, k)
        False where no image was left.
    """
    best = priority.masked_fill(excluded, -1).topk(min(count, excluded.shape[1]), dim=1)
    return best.indices, best.values >= 0


def _same_meaning(cosines: torch.Tensor, baseline: float) -> torch.Tensor:
    return cosines >= baseline + _SAME_MEANING * (1 - baseline)
