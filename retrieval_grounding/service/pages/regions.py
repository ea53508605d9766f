"""All regions of one photograph, with their scores for what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...core.explanation import Explanation
from ...core.groups import label_if_sure
from ...core.hits import Hit
from ...core.query.value import Query
from ...core.region_table import RegionTable
from ...core.regions import WHOLE_IMAGE
from ...core.types import Box, RowKey
from ...matching import checks
from ...matching.embed import embed_phrases
from ...search.calibrated_on import describe_calibration
from ...search.examples import EmbeddedExample, embed_example
from ...search.explain import Asked, explain_row
from ...search.unknown import known_phrases
from ..served import ServedIndex

__all__ = ["Region", "ScoredPhoto", "score_photo"]


@dataclass(frozen=True)
class Region:
    """A region of the photograph.

    Parameters
    ----------
    number : int
        In its image; 0 is the whole image.
    label : str
        For people.
    box : tuple of 4 float
        In pixels.
    score : float or None
        For what was asked; None if nothing was.
    share : float or None
        Probability that this is what was asked for; for examples, the cosine.
    """

    number: int
    label: str
    box: Box
    score: float | None = None
    share: float | None = None

    @property
    def x(self) -> float:
        """Left edge."""
        return round(self.box[0], 1)

    @property
    def y(self) -> float:
        """Upper edge."""
        return round(self.box[1], 1)

    @property
    def width(self) -> float:
        """In pixels."""
        return round(self.box[2] - self.box[0], 1)

    @property
    def height(self) -> float:
        """In pixels."""
        return round(self.box[3] - self.box[1], 1)

    @property
    def area(self) -> float:
        """In pixels."""
        return self.width * self.height

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole image."""
        return self.number == 0


@dataclass(frozen=True)
class ScoredPhoto:
    """The regions of a photograph for a query, best first."""

    regions: list[Region]
    table: RegionTable
    asked: Asked | None

    def explain(self, number: int) -> Explanation | None:
        """Return why a region has its score; None if nothing was asked."""
        if self.asked is None:
            return None
        found = next(region for region in self.regions if region.number == number)
        return explain_row(self.asked, self.table, number, found.share)


def score_photo(
    served: ServedIndex,
    key: RowKey,
    query: Query | None,
    others: Sequence[Hit],
    feedback: bool = True,
) -> ScoredPhoto:
    """Return the regions of an image, scored for a query.

    Parameters
    ----------
    served : ServedIndex
        The index.
    key : RowKey
        Row of the image.
    query : Query or None
        What was asked, if anything.
    others : sequence of Hit
        The hits of the query in other images; probabilities depend on them, so that those shown
        here are those of the grid.
    feedback : bool
        Whether scores follow thumbs.
    """
    store, index = served.retriever.store, served.index
    table = store.gather([key])
    if query is None:
        return ScoredPhoto(_regions(table), table, None)
    query = query.promoted()
    matcher = served.matcher_for(query, feedback)
    texts = [*([query.phrase] if query.phrase is not None else []), *query.also, *query.unwanted]
    phrases = embed_phrases(index.encoder, texts)
    examples = [
        embed_example(example, index.encoder, served.catalog, store) for example in query.like
    ]
    calibrated_on = describe_calibration(served.catalog, matcher)
    asked = Asked(query, phrases, examples, matcher, calibrated_on)
    if query.phrase is None:
        likeness = _likeness(table, examples)
        return ScoredPhoto(_regions(table, likeness, likeness), table, asked)
    scores = checks.score(matcher, phrases[:1], table)[0]
    rivals = np.array([hit.score for hit in others], np.float32)
    rows = np.concatenate([scores[:, None], np.tile(rivals, (len(scores), 1))], axis=1)
    images = max(served.retriever.snapshot().images, rows.shape[1])
    found = checks.probabilities(matcher, rows, images)
    shares = None if found is None else found.box[:, 0]
    if shares is not None and not known_phrases(index.encoder, [query.phrase])[0]:
        shares = np.zeros_like(shares)
    return ScoredPhoto(_regions(table, scores, shares), table, asked)


def _likeness(table: RegionTable, examples: Sequence[EmbeddedExample]) -> np.ndarray:
    weights = np.array([example.weight for example in examples])
    cosines = np.stack(
        [table.embeddings.astype(np.float32) @ example.embedding for example in examples]
    )
    mean: np.ndarray = (weights @ cosines) / weights.sum()
    return mean


def _regions(
    table: RegionTable, scores: np.ndarray | None = None, shares: np.ndarray | None = None
) -> list[Region]:
    regions = []
    for number in range(len(table)):
        x1, y1, x2, y2 = table.boxes[number].tolist()
        label = table.label(number)
        shown = label_if_sure(label, float(table.scores[number])) or "a region"
        regions.append(
            Region(
                number,
                "the whole photograph" if label == WHOLE_IMAGE else shown,
                (x1, y1, x2, y2),
                None if scores is None else float(scores[number]),
                None if shares is None else float(shares[number]),
            )
        )
    order = table.scores if scores is None else scores
    return [regions[row] for row in np.argsort(-order, kind="stable").tolist()]
