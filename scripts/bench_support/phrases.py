"""Phrases with precomputed embeddings, so that encoding is not timed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import retrieval_grounding as rg
from retrieval_grounding.core.phrases import clean_phrase
from retrieval_grounding.matching.language.parse import parse_phrase
from retrieval_grounding.matching.statements import pseudo_statements
from retrieval_grounding.models.encoder import Fingerprint
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.region_store import RegionStore


class KnownPhrases:
    """An encoder that looks up embeddings; with `fallback` it loads nano for other phrases.

    `known` are the phrases to ask, `count` of them, and then their parts, which matchers embed.
    """

    def __init__(
        self, known: list[str], embeddings: np.ndarray, fingerprint: Fingerprint, count: int
    ) -> None:
        self.texts = known[:count]
        self.embeddings = embeddings[:count]
        self.fingerprint = fingerprint
        self.dimension = embeddings.shape[1]
        self.fallback = False
        self._known = embeddings
        self._rows = {text: row for row, text in enumerate(known)}

    def encode_phrases(self, phrases: Sequence[str]) -> np.ndarray:
        """Return the embeddings of known phrases."""
        if self.fallback and not self._rows.keys() >= set(phrases):
            return rg.load_encoder("nano").encode_phrases(phrases)
        return self._known[[self._rows[phrase] for phrase in phrases]]

    def encode_regions(self, *_: object) -> np.ndarray:
        """Raise an error, because nothing is built here."""
        raise NotImplementedError

    def save(self, path: Path) -> None:
        """Write all phrases to a file."""
        np.savez(
            path, known=np.array(list(self._rows)), embeddings=self._known,
            fingerprint=np.array(list(vars(self.fingerprint).values())), count=len(self.texts),
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> KnownPhrases:
        """Read what :meth:`save` wrote."""
        with np.load(path) as stored:
            fingerprint = Fingerprint(*stored["fingerprint"].tolist())
            known, count = stored["known"].tolist(), int(stored["count"])
            return cls(known, stored["embeddings"], fingerprint, count)


def load_phrases(seed: Path, shared: Path, count: int) -> KnownPhrases:
    """Return embedded expressions by people, or else pseudo-queries about the seed's images."""
    encoder = rg.load_encoder("nano")
    file = shared / "refs" / "refs.jsonl"
    if file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines()
        texts = [clean_phrase(json.loads(line)["expression"]) for line in lines]
    else:
        catalog = Catalog(seed)
        keys = sorted({(image.shard, image.row) for image in catalog.images()})
        statements = pseudo_statements(RegionStore(catalog), keys, 7)
        texts = [statement.phrase for statement in statements]
    texts = list(dict.fromkeys(texts))
    order = np.random.default_rng(0).permutation(len(texts))[:count]
    chosen = [texts[number] for number in order]
    parsed = [parse_phrase(text) for text in chosen]
    parts = [text for part in parsed for text in (part.core, part.noun, part.landmark) if text]
    known = list(dict.fromkeys([*chosen, *parts]))
    return KnownPhrases(known, encoder.encode_phrases(known), encoder.fingerprint, len(chosen))
