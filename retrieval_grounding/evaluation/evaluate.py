"""The evaluation: expressions and regions in, a report out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import ExpressionError
from ..core.phrases import Phrases
from ..core.progress import progress_bar
from ..core.types import PathLike
from ..data.expressions import ExpressionSet
from ..data.resolve import ImageNames, Resolved, resolve_images
from ..matching.matcher import Matcher
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from .metrics import Estimate, auroc, bootstrap_means, expected_calibration_error, reliability_curve
from .predictions import SAME_OBJECT, Answers, Facts, Questions, ask_gallery, ask_matchers
from .references import score_predictions
from .report import CURVE, RECALLS, Case, EvaluationReport, Figures, Slice
from .slices import slice_members

__all__ = ["evaluate"]


LARGEST, ORACLE = "largest box", "oracle"

BASELINE = "cosine"
"""The matcher from which gains are counted."""

_CASES = 12
_PHRASES_AT_ONCE = 1024


def evaluate(
    catalog: Catalog,
    encoder: Encoder,
    matchers: Mapping[str, Matcher],
    expressions: ExpressionSet,
    *,
    references: Iterable[PathLike] = (),
    gallery: int = 1000,
    seed: int = 0,
) -> EvaluationReport:
    """Measure matchers side by side on referring expressions, from cached regions alone.

    Parameters
    ----------
    catalog : Catalog
        Of the index.
    encoder : Encoder
        The one that built it.
    matchers : mapping of str to Matcher
        By the names to show; gains are counted from ``"cosine"`` if it is there, and the cases to
        look at are those of the last.
    expressions : ExpressionSet
        As :func:`retrieval_grounding.data.expressions.read_expressions` returns them.
    references : iterable of paths
        Files of others' predictions, shown under their names without suffix.
    gallery : int
        At most so many phrases, drawn by chance, are searched in all images; 0 searches none.
    seed : int
        Of all random draws.

    Returns
    -------
    EvaluationReport

    Raises
    ------
    ExpressionError
        If no expression is about an image of the index, or a file of predictions cannot be used.
    """
    if not matchers:
        raise ExpressionError("name at least one matcher to evaluate")
    resolved = resolve_images(expressions, catalog.images())
    if not resolved.pairs:
        example = f", such as {expressions.expressions[0].image}," if len(expressions) else ""
        raise ExpressionError(
            f"none of the expressions of {expressions.source} is about an image{example} of "
            f"{catalog.directory}; build the index over the photographs that they are about"
        )
    questions = _questions(resolved, encoder)
    store = RegionStore(catalog)
    facts, answers = ask_matchers(questions, matchers, store, seed)
    drawn = np.random.default_rng(seed).permutation(len(questions))[:gallery]
    asked = np.sort(drawn)
    own = {name: answer.present for name, answer in answers.items()}
    ranks = ask_gallery(questions, asked, own, matchers, store)

    peers = _score_references(references, catalog, expressions, resolved, taken=answers)
    overlaps = {LARGEST: facts.largest}
    overlaps |= {name: answer.iou for name, answer in answers.items()}
    overlaps |= {name: ious for name, (ious, _) in peers.items()}
    overlaps[ORACLE] = facts.oracle
    found = [expression for expression, _ in resolved.pairs]
    members = {"": np.ones(len(found), bool)} | slice_members(found, facts)
    baseline = BASELINE if BASELINE in matchers else None
    estimates = _estimate(overlaps, members, questions.images, baseline, seed)
    figures = {}
    for name, ious in overlaps.items():
        extra: dict[str, Any] = {}
        if name in answers:
            extra = _confidence(matchers[name], facts, answers[name]) | _recall(
                ranks[name], answers[name].iou[asked]
            )
        figures[name] = Figures(
            mean_iou=estimates["", name, "mean"],
            accuracy=estimates["", name, "accuracy"],
            mean_iou_gain=estimates.get(("", name, "mean gain")),
            accuracy_gain=estimates.get(("", name, "accuracy gain")),
            curve=[float((ious >= threshold).mean()) for threshold in CURVE],
            missing=peers[name][1] if name in peers else 0,
            **extra,
        )
    shown = list(matchers)[-1]
    best, worst = _cases(resolved, facts, answers[shown])
    return EvaluationReport(
        source=expressions.source,
        expressions=len(found),
        images=len(questions.keys),
        skipped=Counter(expressions.skipped) + resolved.skipped,
        figures=figures,
        slices={
            part: Slice(
                expressions=int(rows.sum()),
                mean_iou={name: estimates[part, name, "mean"] for name in overlaps},
                accuracy={name: estimates[part, name, "accuracy"] for name in overlaps},
            )
            for part, rows in members.items()
            if part
        },
        baseline=baseline,
        shown=shown,
        gallery_phrases=len(asked),
        covered=int((facts.oracle >= SAME_OBJECT).sum()),
        best=best,
        worst=worst,
    )


def _questions(resolved: Resolved, encoder: Encoder) -> Questions:
    """Give every image a number, and embed each different phrase once."""
    places = [(image.shard, image.row) for _, image in resolved.pairs]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(places))}
    texts = [expression.phrase for expression, _ in resolved.pairs]
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    embeddings = _embed(list(rows), encoder)
    return Questions(
        phrases=Phrases(texts, embeddings[[rows[text] for text in texts]]),
        truth=np.array([expression.box for expression, _ in resolved.pairs], np.float64),
        images=np.array([numbers[place] for place in places], np.int64),
        keys=list(numbers),
    )


def _embed(texts: list[str], encoder: Encoder) -> npt.NDArray[np.float32]:
    parts = []
    with progress_bar("embedding", len(texts), "phrases") as advance:
        for start in range(0, len(texts), _PHRASES_AT_ONCE):
            part = texts[start : start + _PHRASES_AT_ONCE]
            parts.append(encoder.encode_phrases(part))
            advance(len(part))
    return np.concatenate(parts)


def _score_references(
    files: Iterable[PathLike],
    catalog: Catalog,
    expressions: ExpressionSet,
    resolved: Resolved,
    taken: Iterable[str],
) -> dict[str, tuple[npt.NDArray[np.float32], int]]:
    paths = [Path(file) for file in files]
    names = [*taken, LARGEST, ORACLE, *(path.stem for path in paths)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ExpressionError(f"two rows of the table would be called {twice[0]}; rename the file")
    if not paths:
        return {}
    # As the file has them: predictions are in its pixels, which need not be those of the index.
    asked = [expressions.expressions[position] for position in resolved.positions]
    images = [image for _, image in resolved.pairs]
    known = ImageNames(catalog.images())
    return {path.stem: score_predictions(path, asked, images, known) for path in paths}


def _estimate(
    overlaps: Mapping[str, npt.NDArray[np.float32]],
    members: Mapping[str, npt.NDArray[np.bool_]],
    images: npt.NDArray[np.int64],
    baseline: str | None,
    seed: int,
) -> dict[tuple[str, str, str], Estimate]:
    """Return every mean with its interval, by slice, way to answer and kind, in one bootstrap."""
    columns: dict[tuple[str, str, str], npt.NDArray[np.float64]] = {}
    for part, rows in members.items():
        kinds = {
            name: {"mean": ious, "accuracy": (ious >= SAME_OBJECT).astype(np.float32)}
            for name, ious in overlaps.items()
        }
        for name, values in kinds.items():
            for kind, column in values.items():
                columns[part, name, kind] = np.where(rows, column, np.nan)
                if baseline and not part and name not in (baseline, LARGEST, ORACLE):
                    columns[part, name, f"{kind} gain"] = column - kinds[baseline][kind]
    estimates = bootstrap_means(np.stack(list(columns.values()), axis=1), images, seed=seed)
    return dict(zip(columns, estimates, strict=True))


def _confidence(matcher: Matcher, facts: Facts, answers: Answers) -> dict[str, Any]:
    covered = facts.oracle >= SAME_OBJECT
    right = answers.row[covered] == facts.oracle_row[covered]
    found: dict[str, Any] = {"given_box": float(right.mean()) if covered.any() else None}
    if np.isnan(answers.absent).any():  # one image only: there is no other
        return found
    found["auroc"] = auroc(answers.present, answers.absent)
    probabilities = matcher.probabilities(np.concatenate([answers.present, answers.absent]))
    if probabilities is not None:
        outcomes = np.concatenate([answers.iou >= SAME_OBJECT, np.zeros(len(answers.iou), bool)])
        found["calibration_error"] = expected_calibration_error(probabilities, outcomes)
        found["reliability"] = reliability_curve(probabilities, outcomes)
    return found


def _recall(
    ranks: npt.NDArray[np.int64], ious: npt.NDArray[np.float32]
) -> dict[str, dict[int, float]]:
    if not len(ranks):
        return {}
    right = ious >= SAME_OBJECT
    return {"box_recall": {k: float((right & (ranks <= k)).mean()) for k in RECALLS}}


def _cases(resolved: Resolved, facts: Facts, answers: Answers) -> tuple[list[Case], list[Case]]:
    """Return the answers that overlap most, and those that lose most against the best region."""
    orders: Sequence[npt.NDArray[np.float32]] = (-answers.iou, answers.iou - facts.oracle)
    best, worst = (_first_of_images(np.argsort(order, kind="stable"), resolved) for order in orders)
    lost = [row for row in worst if answers.iou[row] < min(SAME_OBJECT, facts.oracle[row])]

    def case(row: int) -> Case:
        expression, image = resolved.pairs[row]
        x1, y1, x2, y2 = answers.box[row].tolist()
        return Case(
            image=image.path,
            content_hash=image.content_hash,
            phrase=expression.phrase,
            truth=expression.box,
            answer=(x1, y1, x2, y2),
            iou=float(answers.iou[row]),
            oracle=float(facts.oracle[row]),
        )

    return [case(row) for row in best], [case(row) for row in lost]


def _first_of_images(order: npt.NDArray[np.int64], resolved: Resolved) -> list[int]:
    """Return the first rows of `order` that are about different images."""
    firsts: dict[str, int] = {}
    for row in order.tolist():
        firsts.setdefault(resolved.pairs[row][1].path, row)
        if len(firsts) == _CASES:
            break
    return list(firsts.values())
