"""Queries in steps: filter → candidates → regions → matcher → probability → grouping → hits.

`search.selecting` filters, `search.pool` finds candidates and gathers regions, `search.clauses`
lets the matcher score them and combines probabilities, and `search.grouping` folds duplicates. A
plain phrase takes the shorter way of `search.retriever`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.hits import MIN_PROBABILITY, Hit, Similar
from ..core.photo import Photo
from ..core.phrases import Phrases
from ..core.query.value import Query
from ..core.threads import single_thread
from ..matching.calibration import Probabilities
from ..matching.embed import embed_phrases
from ..matching.feedback_matcher import FeedbackMatcher
from ..matching.matcher import Matcher
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from .calibrated_on import describe_calibration
from .clauses import ClauseScores, Ranked, rank_pool, refuse_probability, score_clauses
from .described import with_metadata
from .examples import EmbeddedExample, embed_example
from .explain import Asked, Explainer
from .grouping import Face, fold, most_diverse
from .pool import Pool, PoolRequest
from .rank import filter_by_probability, make_hit
from .retriever import Retriever
from .unknown import discount_unknown, known_phrases

__all__ = ["AnswerOptions", "answer", "answer_all"]


_UNKNOWN = Photo()
_MAX_ROUNDS = 4
_WIDER = 4
_DIVERSE_CANDIDATES = 10


@dataclass(frozen=True)
class AnswerOptions:
    """How to answer a query; see `Index.query`."""

    top: int
    candidates: int
    min_probability: float | None
    exact: bool
    skip_missing: bool

    def of(self, query: Query) -> AnswerOptions:
        """Return the options with what a query demands itself."""
        minimum = query.min_probability
        return replace(
            self,
            top=self.top if query.top is None else query.top,
            min_probability=self.min_probability if minimum is None else minimum,
        )


def answer_all(
    queries: Sequence[Query],
    catalog: Catalog,
    retriever: Retriever,
    encoder: Encoder,
    matcher: Matcher,
    options: AnswerOptions,
) -> list[list[Hit]]:
    """Return the hits of each query: plain phrases in one pass, each other query by itself.

    See :func:`answer` for errors.
    """
    found: dict[int, list[Hit]] = {}
    passes: dict[AnswerOptions, list[int]] = {}
    for number, query in enumerate(queries):
        own = options.of(query)
        if query.is_plain:
            passes.setdefault(own, []).append(number)
        else:
            found[number] = answer(query, catalog, retriever, encoder, matcher, own)
    for own, numbers in passes.items():
        texts = [queries[number].title for number in numbers]
        phrases = embed_phrases(encoder, texts)
        hits = retriever.search(
            phrases, matcher, own.top, own.candidates, own.exact, own.skip_missing
        )
        hits = discount_unknown(encoder, texts, hits)
        calibrated_on = describe_calibration(catalog, matcher)
        for place, number in enumerate(numbers):
            asked = Asked(queries[number], phrases[place : place + 1], (), matcher, calibrated_on)
            explainer = Explainer(asked, retriever.regions_of)
            kept = filter_by_probability(hits[place], own.min_probability)
            found[number] = [replace(hit, explainer=explainer) for hit in kept]
    ordered = [found[number] for number in range(len(queries))]
    return with_metadata(catalog, ordered) if retriever.has_metadata else ordered


def answer(
    query: Query,
    catalog: Catalog,
    retriever: Retriever,
    encoder: Encoder,
    matcher: Matcher,
    options: AnswerOptions,
) -> list[Hit]:
    """Return the hits of a query, best first.

    Raises
    ------
    QueryError
        If the query does not fit the index.
    ImageError
        If an example cannot be used.
    GroundingError
        If the query needs probabilities, and the matcher has none.
    """
    title, query = query.title, query.promoted()
    minimum, top = options.min_probability, options.top
    refuse_probability(query, minimum)
    answering = _Answering(title, query, catalog, retriever, encoder, matcher, options)
    needed = top * _DIVERSE_CANDIDATES if query.diverse else top
    count = max(options.candidates, needed)
    with contextlib.nullcontext() if options.exact else single_thread():
        for _ in range(_MAX_ROUNDS):
            hits, is_all = answering.hits(count, needed, minimum)
            if len(hits) >= needed or is_all:
                break
            count *= _WIDER
    return [replace(hit, explainer=answering.explainer) for hit in hits[:top]]


class _Answering:
    """One query: what is known before the first candidate is found."""

    def __init__(
        self,
        title: str,
        query: Query,
        catalog: Catalog,
        retriever: Retriever,
        encoder: Encoder,
        matcher: Matcher,
        options: AnswerOptions,
    ) -> None:
        self._title = title
        self._query = query
        self._catalog = catalog
        self._retriever = retriever
        self._matcher = matcher
        self._options = options
        texts = [*([query.phrase] if query.phrase is not None else []), *query.also]
        texts += query.unwanted
        self._phrases = embed_phrases(encoder, texts)
        self._known = known_phrases(encoder, texts)
        self._examples: Sequence[EmbeddedExample] = [
            embed_example(example, encoder, catalog, retriever.store) for example in query.like
        ]
        calibrated_on = describe_calibration(catalog, matcher)
        asked = Asked(query, self._phrases, self._examples, matcher, calibrated_on)
        self.explainer = Explainer(asked, retriever.regions_of)
        self._first_also = 0 if query.phrase is None else 1
        self._also_explainers = [
            Explainer(
                Asked(Query(text), self._phrases[row : row + 1], (), matcher, calibrated_on),
                retriever.regions_of,
            )
            for row, text in enumerate(query.also, self._first_also)
        ]

    def hits(self, count: int, needed: int, minimum: float | None) -> tuple[list[Hit], bool]:
        """Return hits among `count` images for each clause, and whether there are no others."""
        pool = self._retriever.pool(self._request(count))
        if pool is None:
            return [], True
        scored = score_clauses(
            self._query,
            self._phrases,
            self._known,
            self._examples,
            pool,
            self._matcher,
            self._retriever.snapshot().images,
        )
        weights = [example.weight for example in self._examples]
        ranked = rank_pool(self._query, scored, weights, pool)
        own = {example.content_hash for example in self._examples}
        ranked = [found for found in ranked if self._content(pool, found) not in own]
        probable = [found for found in ranked if _may_be_shown(found, minimum)]
        hits = self._make_hits(pool, scored, probable, needed)
        # Images that are further away are less probable than those that are already too improbable.
        return filter_by_probability(hits, minimum), pool.is_all or len(probable) < len(ranked)

    def _request(self, count: int) -> PoolRequest:
        query, phrases, first = self._query, self._phrases, self._first_also
        if isinstance(self._matcher, FeedbackMatcher):
            phrases = self._matcher.sought(phrases)
        wanted = Phrases(
            [*phrases.texts[:first], *("" for _ in self._examples)],
            np.concatenate(
                [
                    phrases.embeddings[:first],
                    *(example.embedding[None] for example in self._examples),
                ]
            ),
        )
        also = phrases[first : first + len(query.also)]
        return PoolRequest(wanted, also, query.filters, count, self._options.exact)

    @staticmethod
    def _content(pool: Pool, found: Ranked) -> str:
        return pool.images[pool.keys[found.image]][0].content_hash

    def _make_hits(
        self, pool: Pool, scored: ClauseScores, ranked: list[Ranked], needed: int
    ) -> list[Hit]:
        query = self._query
        if query.unique is None:
            made = (hit for found in ranked for hit in self._of_image(pool, scored, found))
            hits = _first(made, needed)
        else:
            hits = self._unique(pool, scored, ranked, needed)
        if query.diverse and hits:
            hits = _diverse(pool, hits)
        return hits

    def _unique(
        self, pool: Pool, scored: ClauseScores, ranked: list[Ranked], needed: int
    ) -> list[Hit]:
        assert self._query.unique is not None
        found = [(one, self._of_image(pool, scored, one)) for one in ranked]
        found = [(one, hits) for one, hits in found if hits]  # others are missing
        photos = self._catalog.photos(self._content(pool, one) for one, _ in found)
        regions = pool.regions
        faces = []
        for one, _ in found:
            whole = regions.embeddings[regions.offsets[one.image]].astype(np.float32)
            whole /= np.linalg.norm(whole)
            faces.append(Face(whole, photos.get(self._content(pool, one), _UNKNOWN)))
        folded = []
        for group in fold(faces, self._query.unique)[:needed]:
            best, *copies = found[group.number][1]
            similar = [Similar(hit.image, "copy") for hit in copies]
            for number, relation in group.others:
                similar += [Similar(hit.image, relation) for hit in found[number][1]]
            folded.append(replace(best, similar=tuple(similar)))
        return folded

    def _of_image(self, pool: Pool, scored: ClauseScores, found: Ranked) -> list[Hit]:
        """Return the hits of one content: one for each of its paths."""
        hits = []
        for image in pool.images[pool.keys[found.image]]:
            hit = self._hit(pool, image.path, image.content_hash, found)
            if self._options.skip_missing and hit.missing:
                continue
            also = [
                make_hit(
                    text,
                    image.path,
                    pool.regions,
                    row,
                    scored.scores[number],
                    _of_phrase(scored, number),
                    region_id=int(pool.region_ids[row]),
                    content_hash=image.content_hash,
                )
                for number, (text, row) in enumerate(
                    zip(self._query.also, found.also, strict=True), self._first_also
                )
            ]
            if also:
                pairs = zip(also, self._also_explainers, strict=True)
                explained = tuple(replace(one, explainer=explainer) for one, explainer in pairs)
                hit = replace(hit, also=explained)
            hits.append(hit)
        return hits

    def _hit(self, pool: Pool, path: str, content_hash: str, found: Ranked) -> Hit:
        hit = make_hit(
            self._title,
            path,
            pool.regions,
            found.row,
            np.zeros(len(pool.regions), np.float32),
            None,
            region_id=int(pool.region_ids[found.row]),
            content_hash=content_hash,
        )
        return replace(
            hit,
            score=found.score,
            probability=found.probability,
            image_probability=found.image_probability,
        )


def _may_be_shown(found: Ranked, minimum: float | None) -> bool:
    least = MIN_PROBABILITY if minimum is None else minimum
    return found.image_probability is None or found.image_probability >= least


def _of_phrase(scored: ClauseScores, number: int) -> Probabilities | None:
    found = scored.probabilities
    return None if found is None else Probabilities(found.image[number], found.box[number])


def _first(hits: Iterable[Hit], count: int) -> list[Hit]:
    return [hit for hit, _ in zip(hits, range(count), strict=False)]


def _diverse(pool: Pool, hits: list[Hit]) -> list[Hit]:
    """Return hits in the order in which maximal marginal relevance chooses them."""
    position = {region: row for row, region in enumerate(pool.region_ids.tolist())}
    rows = [position[hit.region_id] for hit in hits]
    embeddings = pool.regions.embeddings[rows].astype(np.float32)
    if any(hit.probability is None for hit in hits):
        scores = np.array([hit.score for hit in hits], np.float32)
        relevance = (scores - scores.min()) / (np.ptp(scores) or 1.0)
    else:
        relevance = np.array([hit.probability for hit in hits], np.float32)
        relevance = relevance / (relevance.max() or 1.0)
    return [hits[number] for number in most_diverse(relevance, embeddings, len(hits))]
