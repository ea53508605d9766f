"""Explaining hits: what a score is made of.

Matchers are networks whose scores have no parts, so a part is measured: it is how much lower the
score is when the evidence is hidden. This works for any matcher. One that knows better can have a
method ``explain(phrases, regions)``, which returns arrays (p, n) by the names of parts; they
replace the measured ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.colors import COLORS
from ..core.errors import GroundingError
from ..core.explanation import ClauseProbability, Explanation, RunnerUp, ScorePart
from ..core.hits import Hit
from ..core.phrases import Phrases
from ..core.query.value import Query
from ..core.region_table import RegionTable
from ..matching import checks
from ..matching.matcher import Matcher
from .examples import EmbeddedExample

__all__ = ["Asked", "Explainer", "explain_row"]


_MAX_COLORS = 3


@dataclass(frozen=True)
class Asked:
    """A query with what is needed to score it again.

    Parameters
    ----------
    query : Query
        As it was asked.
    phrases : Phrases
        The phrase, if there is one, then `also`, then `unwanted`.
    examples : sequence of EmbeddedExample
        The examples.
    matcher : Matcher
        What scored regions.
    calibration : str
        What its probabilities were calibrated on.
    """

    query: Query
    phrases: Phrases
    examples: Sequence[EmbeddedExample]
    matcher: Matcher
    calibration: str


class Explainer:
    """What hits know about the search that found them; it is not pickled with them.

    Parameters
    ----------
    asked : Asked
        The query.
    regions_of : callable
        Returns the regions of a hit's image and the row of the hit among them.
    """

    def __init__(self, asked: Asked, regions_of: Callable[[Hit], tuple[RegionTable, int]]) -> None:
        self._asked = asked
        self._regions_of = regions_of

    def __call__(self, hit: Hit) -> Explanation:
        """Return why a hit was found."""
        regions, row = self._regions_of(hit)
        return explain_row(self._asked, regions, row, hit.probability)

    def __deepcopy__(self, memo: object) -> Explainer:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()


def _nothing() -> None:
    return None


def explain_row(
    asked: Asked, regions: RegionTable, row: int, probability: float | None
) -> Explanation:
    """Explain why a region of an image answers a query.

    Parameters
    ----------
    asked : Asked
        The query.
    regions : RegionTable
        Of the one image.
    row : int
        The region.
    probability : float or None
        Of the hit.
    """
    phrases, matcher = asked.phrases, asked.matcher
    likeness = tuple(
        float(regions.embeddings[row].astype(np.float32) @ example.embedding)
        for example in asked.examples
    )
    if not len(phrases):
        return Explanation(
            "", likeness[0], probability, None, regions.label(row), None,
            _colors("", regions, row), (), None, (), likeness, asked.calibration,
        )  # fmt: skip
    scores = checks.score(matcher, phrases, regions)
    alone = checks.probabilities(matcher, scores[..., None], 1)
    probabilities = None if alone is None else alone.box[..., 0]
    main = phrases[:1]
    label = regions.label_embeddings[int(regions.labels[row])]
    return Explanation(
        phrase=main.texts[0],
        score=float(scores[0, row]),
        probability=probability,
        cosine=float(regions.embeddings[row].astype(np.float32) @ main.embeddings[0]),
        label=regions.label(row),
        label_cosine=float(label @ main.embeddings[0]) if label.any() else None,
        colors=_colors(main.texts[0], regions, row),
        parts=_parts(matcher, main, regions, row, float(scores[0, row])),
        runner_up=_runner_up(regions, row, scores[0], probabilities),
        clauses=_clauses(asked.query, regions, row, scores, probabilities),
        likeness=likeness,
        calibration=asked.calibration if probabilities is not None else "not calibrated",
    )


def _parts(
    matcher: Matcher, phrase: Phrases, regions: RegionTable, row: int, score: float
) -> tuple[ScorePart, ...]:
    """Return how much lower the score is without each kind of evidence."""

    def without(changed: RegionTable, place: int = row) -> float:
        return score - float(checks.score(matcher, phrase, changed)[0, place])

    no_labels = replace(regions, label_embeddings=np.zeros_like(regions.label_embeddings))
    no_colors = replace(regions, colors=np.zeros_like(regions.colors))
    alone = np.unique([0, row])
    pair = RegionTable(
        regions.embeddings[alone], regions.boxes[alone], regions.scores[alone],
        regions.labels[alone], regions.colors[alone], np.array([0, len(alone)]),
        regions.label_names, regions.label_embeddings,
    )  # fmt: skip
    measured = {
        "label": without(no_labels),
        "color": without(no_colors),
        "place": float(np.mean([without(turned) for turned in _mirrored(regions)])),
        "relation": without(pair, len(alone) - 1),
    }
    given: Mapping[str, npt.ArrayLike] | None = None
    if callable(explain := getattr(matcher, "explain", None)):
        given = explain(phrase, regions)
    for name, values in (given or {}).items():
        found = np.asarray(values, np.float64)
        if found.shape != (1, len(regions)) or not np.isfinite(found).all():
            raise GroundingError(
                f"the matcher {matcher.name!r} must explain each score by a finite number; "
                f"{name!r} is an array of the shape {found.shape}"
            )
        measured[name] = float(found[0, row])
    rest = score - sum(measured.values())
    parts = {"appearance": rest} | measured
    return tuple(ScorePart(name, value) for name, value in parts.items())


def _mirrored(regions: RegionTable) -> list[RegionTable]:
    """Return the regions of the image mirrored left to right, upside down, and both."""
    width, height = regions.boxes[0, 2:].tolist()
    x1, y1, x2, y2 = regions.boxes.T
    turned = [(width - x2, y1, width - x1, y2), (x1, height - y2, x2, height - y1)]
    turned.append((width - x2, height - y2, width - x1, height - y1))
    return [replace(regions, boxes=np.stack(box, axis=1).astype(np.float32)) for box in turned]


def _colors(text: str, regions: RegionTable, row: int) -> dict[str, float]:
    shares = dict(zip(COLORS, (regions.colors[row] / 255).tolist(), strict=True))
    words = {word.replace("grey", "gray") for word in text.lower().split()}
    named = {name: share for name, share in shares.items() if name in words}
    largest = sorted(shares.items(), key=lambda item: -item[1])[:_MAX_COLORS]
    return named or {name: share for name, share in largest if share >= 0.05}


def _runner_up(
    regions: RegionTable,
    row: int,
    scores: npt.NDArray[np.float32],
    probabilities: npt.NDArray[np.float32] | None,
) -> RunnerUp | None:
    others = np.delete(np.arange(len(regions)), row)
    if not len(others):
        return None
    second = int(others[np.argmax(scores[others])])
    x1, y1, x2, y2 = regions.boxes[second].tolist()
    probability = None if probabilities is None else float(probabilities[0, second])
    label = regions.label(second)
    return RunnerUp((x1, y1, x2, y2), label, float(scores[second]), probability)


def _clauses(
    query: Query,
    regions: RegionTable,
    row: int,
    scores: npt.NDArray[np.float32],
    probabilities: npt.NDArray[np.float32] | None,
) -> tuple[ClauseProbability, ...]:
    """Return the probability of each phrase, where the query looks for it."""
    named = [("wanted", query.phrase)] if query.phrase is not None else []
    named += [("also", text) for text in query.also]
    named += [("unwanted", text) for text in query.unwanted]
    found = []
    for number, (clause, text) in enumerate(named):
        in_region = clause == "wanted" or (clause == "unwanted" and query.scope == "region")
        place = row if in_region else int(np.argmax(scores[number]))
        value = None if probabilities is None else float(probabilities[number, place])
        found.append(ClauseProbability(clause, str(text), value))
    return tuple(found)
