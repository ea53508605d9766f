"""The queries of an evaluation: phrases with their true boxes and their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases
from ..core.progress import progress_bar
from ..core.types import RowKey
from ..data.resolve import Resolved
from ..matching.embed import embed_phrases
from ..models.encoder import Encoder

__all__ = ["Queries", "group_by_number", "make_queries"]

_PHRASES_AT_ONCE = 1024


@dataclass(frozen=True)
class Queries:
    """Expressions about images of an index.

    Parameters
    ----------
    phrases : Phrases
        The n phrases.
    truth : float array of shape (n, 4)
        Their true boxes, in pixels of the index's images.
    images : int array of shape (n,)
        Number of each phrase's image in `keys`.
    keys : sequence of RowKey
        Places of the images in the shards.
    """

    phrases: Phrases
    truth: npt.NDArray[np.float64]
    images: npt.NDArray[np.int64]
    keys: Sequence[RowKey]

    def __len__(self) -> int:
        return len(self.images)

    def by_image(self) -> list[npt.NDArray[np.int64]]:
        """Return the rows of the queries about each image."""
        return group_by_number(self.images, len(self.keys))


def make_queries(resolved: Resolved, encoder: Encoder) -> Queries:
    """Return the queries of expressions; each distinct phrase is embedded once."""
    places = [(image.shard, image.row) for _, image in resolved.pairs]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(places))}
    texts = [expression.phrase for expression, _ in resolved.pairs]
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    distinct = _embed(list(rows), encoder)
    return Queries(
        phrases=distinct[np.array([rows[text] for text in texts], np.int64)],
        truth=np.array([expression.box for expression, _ in resolved.pairs], np.float64),
        images=np.array([numbers[place] for place in places], np.int64),
        keys=list(numbers),
    )


def group_by_number(numbers: npt.NDArray[np.int64], groups: int) -> list[npt.NDArray[np.int64]]:
    """Return the positions of each group's number.

    Examples
    --------
    >>> [rows.tolist() for rows in group_by_number(np.array([2, 0, 2]), 3)]
    [[1], [], [0, 2]]
    """
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers, minlength=groups))
    return np.split(order, ends[:-1])


def _embed(texts: list[str], encoder: Encoder) -> Phrases:
    batches = []
    with progress_bar("Embedding", len(texts), "phrases") as advance:
        for start in range(0, len(texts), _PHRASES_AT_ONCE):
            batch = embed_phrases(encoder, texts[start : start + _PHRASES_AT_ONCE])
            batches.append(batch)
            advance(len(batch))
    return Phrases(
        texts,
        np.concatenate([batch.embeddings for batch in batches]),
        np.concatenate([batch.parts for batch in batches if batch.parts is not None]),
    )
