"""Comparing detectors: what they find, and what a matcher makes of it, by the number of boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..core.bootstrap import bootstrap_means
from ..core.errors import ExpressionError
from ..core.groups import is_group
from ..core.phrases import Phrases
from ..core.progress import progress_bar
from ..core.region_table import RegionTable
from ..core.regions import pairwise_iou
from ..data.expressions import ExpressionSet
from ..data.prefetch import LoadedImage, read_ahead
from ..data.resolve import resolve_images
from ..indexing.model_spec import Models, recorded_settings
from ..matching import checks
from ..matching.matcher import Matcher
from ..models.checks import detect_regions
from ..models.detector import Detector
from ..models.embedded import embedded_regions
from ..models.encoder import Encoder
from ..models.naming import find_namer
from ..models.yolo import load_detector
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from ..storage.rows import ImageRow
from .predictions import SAME_OBJECT
from .proposal_report import COUNTS, ProposalCurve, ProposalReport
from .queries import make_queries

__all__ = ["INDEX", "compare_proposals", "load_detectors"]

INDEX = "index"
"""Name of the boxes that the index has."""

FloatArray = npt.NDArray[np.float64]


@dataclass
class _Outcomes:
    """What one detector gives for each of n queries; NaN where an image could not be read."""

    covered: FloatArray  # whether one of the first k boxes covers the truth (n, counts)
    correct: FloatArray  # whether the matcher chooses such a box
    boxes: list[int]


def compare_proposals(
    catalog: Catalog,
    encoder: Encoder,
    matcher: Matcher,
    expressions: ExpressionSet,
    detectors: Mapping[str, Detector],
    seed: int = 0,
) -> ProposalReport:
    """Compare the boxes of an index with those of other detectors, on the same expressions.

    Images are read for the other detectors only. One that cannot be read, or has changed, is left
    out for all, so that figures are about the same images.

    Parameters
    ----------
    catalog : Catalog
        Of the index.
    encoder : Encoder
        The one that built it; it embeds the detectors' boxes too.
    matcher : Matcher
        Chooses among the boxes.
    expressions : ExpressionSet
        With true boxes.
    detectors : mapping of str to Detector
        By the names to show.
    seed : int
        Seed for the bootstrap.

    Raises
    ------
    ExpressionError
        If no expression is about an image of the index that can be read.
    """
    resolved = resolve_images(expressions, catalog.images())
    if not resolved.pairs:
        raise ExpressionError(
            f"none of the expressions of {expressions.source} is about an image of "
            f"{catalog.directory}; build the index over the photographs that they describe"
        )
    queries = make_queries(resolved, encoder)
    rows = {(image.shard, image.row): image for _, image in resolved.pairs}
    images = [rows[key] for key in queries.keys]
    shape = (len(queries), len(COUNTS))
    outcomes = {
        name: _Outcomes(np.full(shape, np.nan), np.full(shape, np.nan), [])
        for name in (INDEX, *detectors)
    }
    models = {
        name: Models(detector, encoder, find_namer(detector, encoder))
        for name, detector in detectors.items()
    }
    unreadable: Counter[str] = Counter()
    store = RegionStore(catalog)
    files = _read(images) if detectors else iter([None] * len(images))
    with closing(store), progress_bar("Comparing", len(images), "images") as advance:
        for image, of_image, file in zip(images, queries.by_image(), files, strict=True):
            advance(1)
            if isinstance(file, str):
                unreadable[file] += len(of_image)
                continue
            tables = {INDEX: store.gather([(image.shard, image.row)])}
            if file is not None:
                for name, own in models.items():
                    [found] = own.encode([file], detect_regions(own.detector, [file]))
                    tables[name] = embedded_regions(encoder, file, *found)
            for name, table in tables.items():
                _fill(
                    outcomes[name], of_image, _singles(table), matcher,
                    queries.phrases[of_image], queries.truth[of_image],
                )  # fmt: skip
    used = np.isfinite(outcomes[INDEX].covered[:, 0])
    if not used.any():
        raise ExpressionError(
            f"no image of {catalog.directory} that expressions are about can be read; bring the "
            "files back"
        )
    return ProposalReport(
        source=expressions.source,
        expressions=int(used.sum()),
        images=len(np.unique(queries.images[used])),
        skipped=dict(Counter(expressions.skipped) + resolved.skipped + unreadable),
        matcher=matcher.name,
        curves=_curves(outcomes, queries.images, seed),
    )


def load_detectors(catalog: Catalog, names: Sequence[str], device: str) -> dict[str, Detector]:
    """Load detectors to compare with the boxes of an index, with its thresholds."""
    settings = replace(
        recorded_settings(catalog), groups=False, classes=None, max_boxes=max(COUNTS)
    )
    return {name: load_detector(name, settings, device) for name in names}


def _read(images: list[ImageRow]) -> Iterator[Image.Image | str]:
    """Yield the pictures of images, or why one cannot be used."""
    with closing(read_ahead([image.path for image in images], (), 2)) as files:
        for image, file in zip(images, files, strict=True):
            if not isinstance(file, LoadedImage) or file.image is None:
                yield str(getattr(file, "reason", "unreadable"))
            elif file.content_hash != image.content_hash:
                yield "changed"
            else:
                yield file.image


def _singles(table: RegionTable) -> RegionTable:
    """Return the whole image and the single detections, by decreasing confidence."""
    grouped = np.array([is_group(name) for name in table.label_names])[table.labels]
    single = np.flatnonzero(~grouped)[1:]
    order = single[np.argsort(-table.scores[single], kind="stable")]
    return table.of_one_image(np.concatenate([[0], order]))


def _fill(
    outcomes: _Outcomes,
    rows: npt.NDArray[np.int64],
    table: RegionTable,
    matcher: Matcher,
    phrases: Phrases,
    truth: FloatArray,
) -> None:
    covers = pairwise_iou(truth, table.boxes) >= SAME_OBJECT
    outcomes.boxes.append(len(table) - 1)
    correct = np.zeros(len(rows), bool)
    seen = 0
    for column, count in enumerate(COUNTS):
        outcomes.covered[rows, column] = covers[:, 1 : 1 + count].any(axis=1)
        if column == 0 or seen < outcomes.boxes[-1]:  # or else this count adds no box
            chosen = checks.score(matcher, phrases, table.of_one_image(slice(0, 1 + count)))
            correct = covers[np.arange(len(rows)), chosen.argmax(axis=1)]
        outcomes.correct[rows, column] = correct
        seen = count


def _curves(
    outcomes: Mapping[str, _Outcomes], images: npt.NDArray[np.int64], seed: int
) -> list[ProposalCurve]:
    base = outcomes[INDEX]
    curves = []
    for name, own in outcomes.items():
        columns = [own.covered, own.correct, own.covered - base.covered, own.correct - base.correct]
        estimates = bootstrap_means(np.concatenate(columns, axis=1), images, seed=seed)
        k = len(COUNTS)
        parts = [estimates[start : start + k] for start in range(0, 4 * k, k)]
        gains = parts[2:] if name != INDEX else (None, None)
        curves.append(ProposalCurve(name, float(np.mean(own.boxes)), *parts[:2], *gains))
    return curves
