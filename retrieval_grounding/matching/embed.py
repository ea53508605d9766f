"""Embedding phrases together with their parts, each distinct text once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.phrases import Phrases
from ..models.checks import encode_phrases
from ..models.encoder import Encoder
from .language.parse import parse_phrase

__all__ = ["embed_phrases"]


_TEXTS_PER_CALL = 4096


def embed_phrases(encoder: Encoder, texts: Sequence[str]) -> Phrases:
    """Embed phrases, and their parts: target, noun and landmark.

    Parameters
    ----------
    encoder : Encoder
        The one that embedded the regions.
    texts : sequence of p str
        Cleaned phrases.

    Raises
    ------
    ModelError
        If `encoder` does not return one finite vector of unit length for each text.
    PhraseError
        If a phrase is empty or not text.

    Examples
    --------
    >>> from retrieval_grounding.models.clip import load_encoder
    >>> phrases = embed_phrases(load_encoder("nano"), ["a man left of the bus"])
    >>> phrases.embeddings.shape, phrases.parts.shape
    ((1, 256), (1, 3, 256))
    """
    parsed = [parse_phrase(text) for text in texts]
    parts = [(part.core, part.noun, part.landmark) for part in parsed]
    distinct = list(dict.fromkeys([*texts, *(text for three in parts for text in three if text)]))
    embedded = [
        encode_phrases(encoder, distinct[start : start + _TEXTS_PER_CALL])
        for start in range(0, len(distinct), _TEXTS_PER_CALL)
    ]
    table = np.concatenate([*embedded, np.zeros((1, encoder.dimension), np.float32)])
    rows = {text: row for row, text in enumerate(distinct)} | {"": len(table) - 1}
    of_parts = np.array([[rows[text] for text in three] for three in parts], np.int64)
    return Phrases(
        texts,
        table[[rows[text] for text in texts]],
        table[of_parts.reshape(-1, 3)],
    )
