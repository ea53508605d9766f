"""The evaluation: expressions and regions in, a report out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ExpressionError
from ..core.types import PathLike
from ..data.expressions import Expression, ExpressionSet
from ..data.resolve import ImageNames, Resolved, resolve_images
from ..matching.blend import BlendMatcher, blend_matchers
from ..matching.matcher import Matcher
from ..matching.training_images import TrainingImages
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from .cases import best_cases, worst_cases
from .figures import CURVE, Figures, Slice
from .gallery import rank_gallery
from .measure import ALL, confidence_figures, estimate_means, gallery_figures
from .predictions import predict
from .queries import Queries, make_queries
from .references import ReferenceScores, score_predictions
from .report import EvaluationReport
from .results import expression_results
from .slices import slice_members

__all__ = ["evaluate"]


_LARGEST, _ORACLE = "largest box", "oracle"
_BASELINE, _BLEND = "cosine", "blend"
_SPREAD_IMAGES = 200  # give the spread of scores


def evaluate(
    catalog: Catalog,
    encoder: Encoder,
    matchers: Mapping[str, Matcher],
    expressions: ExpressionSet,
    *,
    references: Iterable[PathLike] = (),
    gallery: int = 1000,
    blend: tuple[str, str] | None = None,
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
        By the names to show. Gains are relative to ``"cosine"`` if it is there; the cases to look
        at are those of the last matcher.
    expressions : ExpressionSet
        As :func:`retrieval_grounding.data.expressions.read_expressions` returns them.
    references : iterable of paths
        Files of predictions of other systems, shown under their names without suffix.
    gallery : int
        Number of phrases, drawn at random, to search for in all images; 0 for none.
    blend : tuple of 2 str, optional
        Two of the matchers, whose blend with equal weights is a row of its own.
    seed : int
        Seed for all random draws.

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
            f"{catalog.directory}; build the index over the photographs that they describe"
        )
    queries = make_queries(resolved, encoder)
    store = RegionStore(catalog)
    shown = list(matchers)[-1]
    if blend is not None:
        matchers = {
            **matchers,
            _BLEND: _blend(matchers[blend[0]], matchers[blend[1]], queries, store),
        }
    facts, predictions = predict(queries, matchers, store, seed)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(queries))[:gallery])
    own_scores = {name: found.present for name, found in predictions.items()}
    ranks = rank_gallery(queries, drawn, own_scores, matchers, store)
    # As the file has them: its boxes are in its own pixels, which may differ from the index's.
    originals = [expressions.expressions[position] for position in resolved.positions]
    scored = _score_references(references, catalog, originals, resolved, taken=matchers)

    overlaps = {
        _LARGEST: facts.largest,
        **{name: found.iou for name, found in predictions.items()},
        **{name: reference.iou for name, reference in scored.items()},
        _ORACLE: facts.oracle,
    }
    members = slice_members([expression for expression, _ in resolved.pairs], facts)
    baseline = _BASELINE if _BASELINE in matchers else None
    compared = {*matchers, *scored}
    estimates = estimate_means(overlaps, members, queries.images, baseline, compared, seed)
    correct = {name: found.correct[drawn] for name, found in predictions.items()}
    recalls = gallery_figures(ranks, correct, queries.images[drawn], baseline, seed)
    figures = {}
    for name, iou in overlaps.items():
        extra: dict[str, Any] = {}
        if name in predictions:
            extra = confidence_figures(matchers[name], facts, predictions[name]) | recalls[name]
        elif name in scored:
            extra["missing"] = scored[name].missing
        figures[name] = Figures(
            mean_iou=estimates[ALL, name, "iou"],
            accuracy=estimates[ALL, name, "accuracy"],
            mean_iou_gain=estimates.get((ALL, name, "iou gain")),
            accuracy_gain=estimates.get((ALL, name, "accuracy gain")),
            curve=[float((iou >= threshold).mean()) for threshold in CURVE],
            **extra,
        )
    return EvaluationReport(
        source=expressions.source,
        expressions=len(queries),
        images=len(queries.keys),
        # A plain dict: dataclasses.asdict rebuilds a Counter from its items and counts them.
        skipped=dict(Counter(expressions.skipped) + resolved.skipped),
        figures=figures,
        slices={
            part: Slice(
                expressions=int(rows.sum()),
                mean_iou={name: estimates[part, name, "iou"] for name in overlaps},
                accuracy={name: estimates[part, name, "accuracy"] for name in overlaps},
            )
            for part, rows in members.items()
        },
        baseline=baseline,
        shown=shown,
        gallery_phrases=len(drawn),
        covered=int(facts.covered.sum()),
        trained_images=_count_trained_images(matchers, resolved),
        best=best_cases(resolved, facts, predictions[shown]),
        worst=worst_cases(resolved, facts, predictions[shown]),
        results=expression_results(
            originals, [expression for expression, _ in resolved.pairs], facts, predictions, shown
        ),
    )


def _blend(first: Matcher, second: Matcher, queries: Queries, store: RegionStore) -> BlendMatcher:
    """Return the blend of two matchers with equal weights, whose spreads the queries give."""
    _, rows = np.unique(queries.images, return_index=True)
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SPREAD_IMAGES)).astype(int)]
    keys = [queries.keys[image] for image in queries.images[chosen].tolist()]
    return blend_matchers(first, second, queries.phrases[chosen], keys, store)


def _count_trained_images(matchers: Mapping[str, Matcher], resolved: Resolved) -> dict[str, int]:
    """Return how many images each matcher was trained on, for those that were on some."""
    contents = {image.content_hash for _, image in resolved.pairs}
    records = {name: getattr(matcher, "images", None) for name, matcher in matchers.items()}
    counts = {
        name: sum(map(record.trained_on, contents))
        for name, record in records.items()
        if isinstance(record, TrainingImages)
    }
    return {name: count for name, count in counts.items() if count}


def _score_references(
    files: Iterable[PathLike],
    catalog: Catalog,
    originals: Sequence[Expression],
    resolved: Resolved,
    taken: Iterable[str],
) -> dict[str, ReferenceScores]:
    """Score files of predictions, by the names to show; a name must not be `taken`."""
    paths = [Path(file) for file in files]
    names = [*taken, _LARGEST, _ORACLE, *(path.stem for path in paths)]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ExpressionError(
            f"two rows of the table would be called {repeated[0]}; rename the file"
        )
    if not paths:
        return {}
    images = [image for _, image in resolved.pairs]
    known = ImageNames(catalog.images())
    return {path.stem: score_predictions(path, originals, images, known) for path in paths}
