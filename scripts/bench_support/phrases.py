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

    Parameters
    ----------
    texts : list of str
        What to ask.
    known : list of str
        The same texts, then the parts of them that matchers look at.
    embeddings : float32 array of shape (known, d)
        Of `known`.
    fingerprint : Fingerprint
        Of the encoder that embedded them.
    """

    def __init__(
        self,
        texts: list[str],
        known: list[str],
        embeddings: np.ndarray,
        fingerprint: Fingerprint,
    ) -> None:
        self.texts = texts
        self.known = known
        self.all_embeddings = embeddings
        self.embeddings = embeddings[: len(texts)]
        self.fingerprint = fingerprint
        self.dimension = embeddings.shape[1]
        self.fallback = False
        self._rows = {text: row for row, text in enumerate(known)}

    def encode_phrases(self, phrases: Sequence[str]) -> np.ndarray:
        """Return the embeddings of known phrases."""
        if self.fallback and not self._rows.keys() >= set(phrases):
            return rg.load_encoder("nano").encode_phrases(phrases)
        return self.all_embeddings[[self._rows[phrase] for phrase in phrases]]

    def encode_regions(self, *_: object) -> np.ndarray:
        """Raise an error, because nothing is built here."""
        raise NotImplementedError

    def save(self, path: Path) -> None:
        """Write all phrases to a file."""
        np.savez(
            path, texts=np.array(self.texts), known=np.array(self.known),
            embeddings=self.all_embeddings,
            fingerprint=np.array(list(vars(self.fingerprint).values())),
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> KnownPhrases:
        """Read what :meth:`save` wrote."""
        with np.load(path) as stored:
            fingerprint = Fingerprint(*stored["fingerprint"].tolist())
            texts, known = stored["texts"].tolist(), stored["known"].tolist()
            return cls(texts, known, stored["embeddings"], fingerprint)


def read_expressions(file: Path, count: int, seed: int = 0) -> list[str]:
    """Return `count` different expressions of a file of JSON lines, drawn at random."""
    lines = file.read_text(encoding="utf-8").splitlines()
    texts = list(dict.fromkeys(clean_phrase(json.loads(line)["expression"]) for line in lines))
    order = np.random.default_rng(seed).permutation(len(texts))[:count]
    return [texts[number] for number in order]


def load_phrases(seed: Path, shared: Path, count: int) -> KnownPhrases:
    """Return embedded expressions by people, or else pseudo-queries about the seed's images."""
    encoder = rg.load_encoder("nano")
    file = shared / "refs" / "refs.jsonl"
    if file.is_file():
        texts = read_expressions(file, count)
    else:
        catalog = Catalog(seed)
        keys = sorted({(image.shard, image.row) for image in catalog.images()})
        statements = pseudo_statements(RegionStore(catalog), keys, 7)
        texts = list(dict.fromkeys(statement.phrase for statement in statements))
        order = np.random.default_rng(0).permutation(len(texts))[:count]
        texts = [texts[number] for number in order]
    parts = map(parse_phrase, texts)
    named = [name for part in parts for name in (part.core, part.noun, part.landmark) if name]
    known = list(dict.fromkeys([*texts, *named]))
    return KnownPhrases(texts, known, encoder.encode_phrases(known), encoder.fingerprint)
