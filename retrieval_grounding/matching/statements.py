"""Statements: phrases about images of an index, from people or made from its detections."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.types import RowKey
from ..data.resolve import Resolved
from ..models.checks import encode_phrases
from ..models.encoder import Encoder
from ..storage.region_store import RegionStore
from .dataset import Examples
from .embed import embed_phrases
from .pseudo.generate import pseudo_queries
from .pseudo.mirror import mirror_phrase
from .pseudo.nouns import all_nouns

__all__ = ["Statement", "make_examples", "pseudo_statements", "resolved_statements"]


_IMAGES_PER_TABLE = 1000
_UNKNOWN_BOX = (np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Statement:
    """A phrase about an image.

    Parameters
    ----------
    key : (shard, row)
        Address of the image's regions.
    phrase : str
        The text.
    box : tuple of 4 float, or None
        Corners of the target, as fractions of the image's width and height; None if the phrase
        describes the image but its target has no known box.
    weight : float
        How often training meets it in an epoch, on average.
    generated : bool
        Whether a program made the phrase; people wrote it otherwise.
    contrast : str
        A phrase that is false of the target; empty if none is known. See :mod:`.contrasts`.
    held_out : bool
        Whether it is about an image that must be held out.
    """

    key: RowKey
    phrase: str
    box: tuple[float, float, float, float] | None
    weight: float = 1.0
    generated: bool = False
    contrast: str = ""
    held_out: bool = False


def resolved_statements(
    resolved: Resolved, weight: float = 1.0, held_out: Collection[str] = ()
) -> list[Statement]:
    """Return the expressions of a file as statements; those of the splits `held_out` are marked."""
    statements = []
    for expression, image in resolved.pairs:
        x1, y1, x2, y2 = expression.box
        box = (x1 / image.width, y1 / image.height, x2 / image.width, y2 / image.height)
        kept = expression.split in held_out
        key = (image.shard, image.row)
        statements.append(Statement(key, expression.phrase, box, weight, held_out=kept))
    return statements


def pseudo_statements(
    store: RegionStore,
    keys: Iterable[RowKey],
    seed: int,
    encoder: Encoder | None = None,
    weight: float = 1.0,
) -> list[Statement]:
    """Return pseudo-queries for the images at `keys`; see :mod:`.pseudo.generate`.

    With the encoder of the index, a person may be called a man or a woman, where it can tell.
    """
    all_keys = list(keys)
    nouns = all_nouns()
    noun_embeddings = (
        dict(zip(nouns, encode_phrases(encoder, nouns), strict=True)) if encoder else None
    )
    statements: list[Statement] = []
    for start in range(0, len(all_keys), _IMAGES_PER_TABLE):
        table_keys = all_keys[start : start + _IMAGES_PER_TABLE]
        table = store.gather(table_keys)
        queries = pseudo_queries(table, seed, noun_embeddings=noun_embeddings)
        whole_images = table.boxes[table.offsets[queries.images]]
        boxes = table.boxes[queries.rows] / np.tile(whole_images[:, 2:], 2)
        for image, phrase, box in zip(queries.images, queries.phrases, boxes.tolist(), strict=True):
            statements.append(Statement(table_keys[image], phrase, tuple(box), weight, True))
    return statements


def make_examples(
    statements: Sequence[Statement], keys: Sequence[RowKey], encoder: Encoder
) -> Examples:
    """Return statements as training examples.

    Each distinct phrase, mirrored ones included, is embedded once. A phrase that cannot be mirrored
    has -1 in the place of the mirrored one.

    Parameters
    ----------
    statements : sequence of Statement
        One becomes one example.
    keys : sequence of (shard, row)
        ``keys[i]`` is the address of image i; those of all statements are among them.
    encoder : Encoder
        Embeds the phrases.
    """
    said = dict.fromkeys(text for s in statements for text in (s.phrase, s.contrast) if text)
    mirrored = {text: mirror_phrase(text) or "" for text in said}
    texts = list(dict.fromkeys([*mirrored, *(text for text in mirrored.values() if text)]))
    row_of = {text: row for row, text in enumerate(texts)} | {"": -1}
    mirrored_row_of = {text: row_of[other] for text, other in mirrored.items()} | {"": -1}
    image_numbers = {key: number for number, key in enumerate(keys)}
    return Examples(
        phrases=embed_phrases(encoder, texts),
        phrase=np.array([row_of[s.phrase] for s in statements], np.int64),
        mirrored=np.array([mirrored_row_of[s.phrase] for s in statements], np.int64),
        image=np.array([image_numbers[s.key] for s in statements], np.int64),
        boxes=np.array([s.box or _UNKNOWN_BOX for s in statements], np.float32).reshape(-1, 4),
        weight=np.array([s.weight for s in statements], np.float32),
        generated=np.array([s.generated for s in statements], bool),
        contrast=np.array([row_of[s.contrast] for s in statements], np.int64),
        mirrored_contrast=np.array([mirrored_row_of[s.contrast] for s in statements], np.int64),
    )
