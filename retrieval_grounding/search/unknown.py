"""Phrases that the encoder cannot read: their hits are random, and must not look probable."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from ..core.hits import Hit
from ..models.encoder import Encoder

__all__ = ["discount_unknown", "known_phrases"]

_log = logging.getLogger(__name__)


def known_phrases(encoder: Encoder, texts: Sequence[str]) -> list[bool]:
    """Return of which phrases the encoder knows a word, and warn of the others.

    An encoder may have a method ``knows(phrase)``; otherwise every phrase counts as known.
    """
    knows = getattr(encoder, "knows", lambda _: True)
    known = [bool(knows(text)) for text in texts]
    for text, is_known in zip(texts, known, strict=True):
        if not is_known:
            _log.warning(
                "the encoder %s knows no word of %r, so its hits are arbitrary%s",
                encoder.fingerprint.name,
                text,
                "; nano knows English only" if encoder.fingerprint.name == "nano" else "",
            )
    return known


def discount_unknown(
    encoder: Encoder, texts: Sequence[str], hits: Sequence[list[Hit]]
) -> list[list[Hit]]:
    """Return hits, with probability 0 for phrases of which the encoder knows no word.

    Parameters
    ----------
    encoder : Encoder
        As for :func:`known_phrases`.
    texts : sequence of p str
        The phrases.
    hits : sequence of p lists of Hit
        Of each phrase.
    """
    return [
        own if known else [_discounted(hit) for hit in own]
        for known, own in zip(known_phrases(encoder, texts), hits, strict=True)
    ]


def _discounted(hit: Hit) -> Hit:
    return hit if hit.probability is None else replace(hit, probability=0.0, image_probability=0.0)
