"""What thumbs say about the phrases of a query: which regions were liked, and which were not."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..core.errors import StoreError
from ..core.feedback import FeedbackEntry
from ..core.fork import ForkSafeLock
from ..core.query.value import Query
from ..core.region_table import RegionTable
from ..core.regions import pairwise_iou
from ..matching import checks
from ..matching.embed import embed_phrases
from ..matching.feedback_matcher import FeedbackMatcher, Shift
from ..matching.matcher import Matcher
from ..matching.nearness import NEAR_COSINE, Meaning, meaning_of
from ..models.checks import encode_phrases
from ..models.encoder import Encoder
from ..storage.feedback_file import FeedbackFile
from .retriever import Retriever

__all__ = ["Listener"]

_log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]

_SAME_REGION = 0.5
_NEAR_WEIGHT = 0.5
_MAX_THUMBS = 64  # of a phrase that count: the latest
_MAX_KEPT = 4096
_SAMPLE_IMAGES = 64
"""Whose regions say what is usual, and how far scores are apart."""


class Listener:
    """Makes matchers that listen to the thumbs of an index; threads may share it.

    Parameters
    ----------
    file : FeedbackFile
        The thumbs.
    """

    def __init__(self, file: FeedbackFile) -> None:
        self._file = file
        self._lock = ForkSafeLock()
        self._texts: dict[str, FloatArray] = {}
        self._meanings: dict[str, Meaning] = {}
        self._forget(None)

    def _forget(self, state: object) -> None:
        self._state = state
        self._entries: dict[object, list[FeedbackEntry]] = {}
        self._sample: RegionTable | None = None
        self._embeddings = np.zeros((0, 1), np.float32)
        self._shifts: dict[str, tuple[Matcher, Shift | None]] = {}

    def listening(
        self, matcher: Matcher, queries: Sequence[Query], retriever: Retriever, encoder: Encoder
    ) -> Matcher:
        """Return a matcher that knows what people think of the phrases of some queries.

        It is `matcher` itself if there are no thumbs for these phrases, or for phrases that are
        near them, or if thumbs cannot be read; then a warning is logged.
        """
        stored = self._file.state()
        if stored is None:
            return matcher
        try:
            return self._listening(stored, matcher, queries, retriever, encoder)
        except StoreError as error:
            _log.warning("thumbs are not used: %s", error)
            return matcher

    def _listening(
        self,
        stored: object,
        matcher: Matcher,
        queries: Sequence[Query],
        retriever: Retriever,
        encoder: Encoder,
    ) -> Matcher:
        entries = self._file.read().entries.values()
        texts = dict.fromkeys(text for query in queries for text in _texts_of(query))
        with self._lock:
            state = stored, retriever.snapshot().generation
            if state != self._state:
                self._forget(state)
                self._meanings = {
                    entry.phrase: self._meanings.get(entry.phrase) or meaning_of(entry.phrase)
                    for entry in entries
                }
                for entry in entries:
                    said = self._meanings[entry.phrase][:2]
                    self._entries.setdefault(said, []).append(entry)
                self._sample = retriever.sample(_SAMPLE_IMAGES)
                if self._sample is not None:
                    self._embeddings = self._sample.embeddings.astype(np.float32)
            shifts = {}
            for text in texts:
                near = self._near(text, encoder)
                if near and (shift := self._known_shift(text, near, matcher, retriever, encoder)):
                    shifts[text] = shift
            return FeedbackMatcher(matcher, shifts, self._embeddings) if shifts else matcher

    def _near(self, text: str, encoder: Encoder) -> list[tuple[FeedbackEntry, float]]:
        """Return the thumbs for a phrase and for those near it, with their weights."""
        own = meaning_of(text)
        similar = [
            (entry, self._meanings[entry.phrase]) for entry in self._entries.get(own[:2], ())
        ]
        others = [entry.phrase for entry, meaning in similar if meaning.noun != own.noun]
        if others:
            self._embed([text, *others], encoder)
        found = []
        for entry, meaning in similar:
            if meaning.noun == own.noun:
                found.append((entry, 1.0))
            elif float(self._texts[entry.phrase] @ self._texts[text]) >= NEAR_COSINE:
                found.append((entry, _NEAR_WEIGHT))
        return found[-_MAX_THUMBS:]

    def _embed(self, texts: Sequence[str], encoder: Encoder) -> None:
        if len(self._texts) > _MAX_KEPT:
            self._texts.clear()
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            self._texts |= dict(zip(new, encode_phrases(encoder, new), strict=True))

    def _known_shift(
        self,
        text: str,
        near: Sequence[tuple[FeedbackEntry, float]],
        matcher: Matcher,
        retriever: Retriever,
        encoder: Encoder,
    ) -> Shift | None:
        known = self._shifts.get(text)
        if known is None or known[0] is not matcher:
            if len(self._shifts) >= _MAX_KEPT:
                self._shifts.clear()
            known = matcher, self._shift(text, near, matcher, retriever, encoder)
            self._shifts[text] = known
        return known[1]

    def _shift(
        self,
        text: str,
        near: Sequence[tuple[FeedbackEntry, float]],
        matcher: Matcher,
        retriever: Retriever,
        encoder: Encoder,
    ) -> Shift | None:
        judged: dict[str, list[tuple[FloatArray, float]]] = {"up": [], "down": []}
        for entry, weight in near:
            table = retriever.regions_of_content(entry.content_hash)
            region = None if table is None else _region_at(table, entry)
            if region is not None:
                judged[entry.verdict].append((region, weight))
        if self._sample is None or not (judged["up"] or judged["down"]):
            return None
        scores = checks.score(matcher, embed_phrases(encoder, [text]), self._sample)
        liked, weights = _stacked(judged["up"], encoder.dimension)
        disliked, other_weights = _stacked(judged["down"], encoder.dimension)
        both = weights, other_weights
        return Shift.of(liked, disliked, self._embeddings, float(scores.std()), both)


def _texts_of(query: Query) -> list[str]:
    return [*([] if query.phrase is None else [query.phrase]), *query.also, *query.unwanted]


def _region_at(table: RegionTable, entry: FeedbackEntry) -> FloatArray | None:
    scale = table.boxes[0, 2:] / np.array(entry.image_size, np.float32)
    box = np.array([entry.box], np.float32) * np.tile(scale, 2)
    overlaps = pairwise_iou(box, table.boxes)[0]
    best = int(overlaps.argmax())
    if overlaps[best] < _SAME_REGION:
        return None
    region = table.embeddings[best].astype(np.float32)
    return np.asarray(region / (np.linalg.norm(region) or 1.0), np.float32)


def _stacked(
    judged: Sequence[tuple[FloatArray, float]], dimension: int
) -> tuple[FloatArray, FloatArray]:
    regions = np.array([region for region, _ in judged], np.float32).reshape(-1, dimension)
    return regions, np.array([weight for _, weight in judged], np.float32)
