"""Statements: what is said of images of an index, by people or made from it, and as examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.phrases import Phrases
from ..core.types import RowKey
from ..data.resolve import Resolved
from ..models.encoder import Encoder
from ..storage.region_store import RegionStore
from .dataset import Examples
from .pseudo.generate import pseudo_queries
from .pseudo.templates import mirror_phrase

__all__ = ["Statement", "make_examples", "pseudo_statements", "resolved_statements"]


_IMAGES_PER_TABLE = 1000
_PHRASES_PER_CALL = 4096


@dataclass(frozen=True)
class Statement:
    """What somebody says of an image.

    Parameters
    ----------
    key : (shard, row)
        Where the image's regions lie.
    phrase : str
        The words.
    box : tuple of 4 float, or None
        Corners of what is meant, as fractions of the image's width and height; None if the
        phrase holds for the image but nobody knows where.
    """

    key: RowKey
    phrase: str
    box: tuple[float, float, float, float] | None


def resolved_statements(resolved: Resolved) -> list[Statement]:
    """Return expressions of a file as statements."""
    statements = []
    for expression, image in resolved.pairs:
        x1, y1, x2, y2 = expression.box
        box = (x1 / image.width, y1 / image.height, x2 / image.width, y2 / image.height)
        statements.append(Statement((image.shard, image.row), expression.phrase, box))
    return statements


def pseudo_statements(store: RegionStore, keys: Iterable[RowKey], seed: int) -> list[Statement]:
    """Return pseudo-queries for the images at `keys`; see :mod:`.referring.pseudo`."""
    wanted = list(keys)
    statements: list[Statement] = []
    for start in range(0, len(wanted), _IMAGES_PER_TABLE):
        part = wanted[start : start + _IMAGES_PER_TABLE]
        table = store.gather(part)
        queries = pseudo_queries(table, seed)
        whole = table.boxes[table.offsets[queries.images]]
        boxes = table.boxes[queries.rows] / np.tile(whole[:, 2:], 2)
        for image, phrase, box in zip(queries.images, queries.phrases, boxes.tolist(), strict=True):
            statements.append(Statement(part[image], phrase, tuple(box)))
    return statements


def make_examples(
    statements: Sequence[Statement], keys: Sequence[RowKey], encoder: Encoder
) -> Examples:
    """Embed all phrases, and their mirror images, each once; image i lies at ``keys[i]``."""
    turned = {s.phrase: mirror_phrase(s.phrase) for s in statements}
    texts = list(dict.fromkeys([*turned, *turned.values()]))
    parts = [
        encoder.encode_phrases(texts[start : start + _PHRASES_PER_CALL])
        for start in range(0, len(texts), _PHRASES_PER_CALL)
    ]
    place = {key: number for number, key in enumerate(keys)}
    number = {text: row for row, text in enumerate(texts)}
    nowhere = (np.nan,) * 4
    return Examples(
        Phrases(texts, np.concatenate(parts)),
        np.array([number[s.phrase] for s in statements], np.int64),
        np.array([number[turned[s.phrase]] for s in statements], np.int64),
        np.array([place[s.key] for s in statements], np.int64),
        np.array([s.box or nowhere for s in statements], np.float32),
    )
