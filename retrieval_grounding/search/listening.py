"""What thumbs say about the phrases of a query: which regions were liked, and which were not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..core.feedback import FeedbackEntry
from ..core.fork import ForkSafeLock
from ..core.phrases import Phrases
from ..core.query.value import Query
from ..core.region_table import RegionTable
from ..core.regions import pairwise_iou
from ..matching import checks
from ..matching.calibration import Calibration
from ..matching.embed import embed_phrases
from ..matching.feedback_matcher import FeedbackMatcher, Shift
from ..matching.matcher import Matcher
from ..matching.nearness import NEAR_COSINE, meaning_of
from ..models.checks import encode_phrases
from ..models.encoder import Encoder
from ..storage.feedback_file import FeedbackFile
from .retriever import Retriever

__all__ = ["Listener"]

FloatArray = npt.NDArray[np.float32]

_SAME_REGION = 0.5
_NEAR_WEIGHT = 0.5
_MAX_THUMBS = 64  # of a phrase that count: the latest
_SAMPLE_IMAGES = 128
_SAMPLE_REGIONS = 1000


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
        self._state: object = None
        self._regions: dict[str, FloatArray | None] = {}
        self._texts: dict[str, FloatArray] = {}
        self._sample: FloatArray | None = None

    def listening(
        self, matcher: Matcher, queries: Sequence[Query], retriever: Retriever, encoder: Encoder
    ) -> Matcher:
        """Return a matcher that knows what people think of the phrases of some queries.

        It is `matcher` itself if there are no thumbs for these phrases, or for phrases that are
        near them.

        Raises
        ------
        StoreError
            If the file of thumbs cannot be read.
        """
        if self._file.state() is None:
            return matcher
        entries = list(self._file.read().entries.values())
        texts = dict.fromkeys(text for query in queries for text in _texts_of(query))
        with self._lock:
            state = retriever.snapshot().generation
            if state != self._state:  # regions may have moved, and the sample is of others
                self._state, self._regions, self._sample = state, {}, None
            shifts = {
                text: shift
                for text in texts
                if (near := self._near(text, entries, encoder))
                and (shift := self._shift(text, near, matcher, retriever, encoder))
            }
            sample = self._sampled(retriever) if shifts else None
        return matcher if sample is None else FeedbackMatcher(matcher, shifts, sample)

    def _near(
        self, text: str, entries: Sequence[FeedbackEntry], encoder: Encoder
    ) -> list[tuple[FeedbackEntry, float]]:
        """Return the thumbs for a phrase and for those near it, with their weights."""
        own = meaning_of(text)
        similar = [
            (entry, meaning)
            for entry in entries
            if (meaning := meaning_of(entry.phrase))[:2] == own[:2]
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
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            self._texts |= dict(zip(new, encode_phrases(encoder, new), strict=True))

    def _shift(
        self,
        text: str,
        near: Sequence[tuple[FeedbackEntry, float]],
        matcher: Matcher,
        retriever: Retriever,
        encoder: Encoder,
    ) -> Shift | None:
        judged: dict[str, list[tuple[FloatArray, float]]] = {"up": [], "down": []}
        tables: list[RegionTable] = []
        for entry, weight in near:
            region = self._region(entry, retriever)
            if region is not None:
                judged[entry.verdict].append((region, weight))
                if len(tables) < 1 and not isinstance(_calibration(matcher), Calibration):
                    table = retriever.regions_of_content(entry.content_hash)
                    tables += [] if table is None else [table]
        if not judged["up"] and not judged["down"]:
            return None
        unit = _unit(matcher, embed_phrases(encoder, [text]), tables, retriever.snapshot().images)
        liked, weights = _stacked(judged["up"], encoder.dimension)
        disliked, other_weights = _stacked(judged["down"], encoder.dimension)
        sample = self._sampled(retriever)
        return Shift.of(liked, disliked, sample, unit, (weights, other_weights))

    def _region(self, entry: FeedbackEntry, retriever: Retriever) -> FloatArray | None:
        """Return the embedding of the region that a thumb is about, if there is one."""
        if entry.id not in self._regions:
            table = retriever.regions_of_content(entry.content_hash)
            self._regions[entry.id] = None if table is None else _region_at(table, entry)
        return self._regions[entry.id]

    def _sampled(self, retriever: Retriever) -> FloatArray:
        """Return some regions of the index."""
        if self._sample is None:
            stored = retriever.sample(_SAMPLE_IMAGES)
            self._sample = stored[:: max(1, len(stored) // _SAMPLE_REGIONS)].astype(np.float32)
        return self._sample


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


def _calibration(matcher: Matcher) -> object:
    return getattr(matcher, "calibration", None)


def _unit(matcher: Matcher, phrase: Phrases, tables: Sequence[RegionTable], images: int) -> float:
    """Return by how much the score changes that changes the odds by a factor of e.

    Without a calibration it is the spread of the scores in an image that was judged.
    """
    calibration = _calibration(matcher)
    if isinstance(calibration, Calibration):
        return 1 / calibration.slope_among(images)
    spreads = [float(checks.score(matcher, phrase, table).std()) for table in tables]
    return max(spreads, default=0.0)
