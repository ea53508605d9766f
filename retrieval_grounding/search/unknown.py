"""Phrases that the encoder cannot read: their hits are random, and must not look probable."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from ..core.hits import Hit
from ..models.encoder import Encoder

__all__ = ["discount_unknown"]

_log = logging.getLogger(__name__)


def discount_unknown(
    encoder: Encoder, texts: Sequence[str], hits: Sequence[list[Hit]]
) -> list[list[Hit]]:
    """Return hits, with probability 0 for phrases of which the encoder knows no word.

    Parameters
    ----------
    encoder : Encoder
        May have a method ``knows(phrase)``; otherwise every phrase counts as known.
    texts : sequence of p str
        The phrases.
    hits : sequence of p lists of Hit
        Of each phrase.
    """
    knows = getattr(encoder, "knows", lambda _: True)
    checked = []
    for text, own in zip(texts, hits, strict=True):
        if knows(text):
            checked.append(own)
            continue
        _log.warning(
            "the encoder %s knows no word of %r, so its hits are arbitrary%s",
            encoder.fingerprint.name,
            text,
            "; nano knows English only" if encoder.fingerprint.name == "nano" else "",
        )
        checked.append(
            [
                hit
                if hit.probability is None
                else replace(hit, probability=0.0, image_probability=0.0)
                for hit in own
            ]
        )
    return checked
