"""Training an index's matcher: from expressions or pseudo-queries to the files in the index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from ..core.errors import GroundingError, ModelError
from ..core.text import counted
from ..core.types import PathLike
from ..data.expressions import read_expressions
from ..data.resolve import resolve_images
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from .calibrate import UNDETECTED
from .fit import MIN_IMAGES, Fit, fit_matcher
from .install import CHECKPOINT_FILE, CURVE_FILES, MATCHER_FILE, install_files
from .matcher import Matcher
from .options import TrainingOptions
from .plots import plot_history
from .statements import pseudo_statements, resolved_statements
from .trained import TrainedMatcher

__all__ = ["train_index"]


def train_index(
    catalog: Catalog,
    encoder: Encoder,
    source: PathLike | Literal["pseudo"],
    *,
    splits: Sequence[str] | None,
    first_sentence_only: bool,
    one_object_per_image: bool,
    kind: Literal["residual", "concat"],
    options: TrainingOptions | None,
    device: str,
    fine_tune: bool,
    load_current: Callable[[], Matcher],
    before_saving: Callable[[], None],
) -> Fit:
    """Fit a matcher and, unless it is worse than what is in use, write it into the index.

    Its learning curve is written with it. The caller holds the writer's lock, which
    `before_saving` checks. See
    :meth:`retrieval_grounding.Index.train`.
    """
    current = _current_matcher(load_current, fine_tune)
    start = current if fine_tune and isinstance(current, TrainedMatcher) else None
    store = RegionStore(catalog)
    options = options or TrainingOptions()
    if source == "pseudo":
        keys = dict.fromkeys((image.shard, image.row) for image in catalog.images())
        statements = pseudo_statements(store, keys, options.seed, encoder)
        trained_on = f"pseudo-queries of {counted(len(keys), 'image')}"
        undetected = UNDETECTED
        advice = "add images that show several objects the detector knows, or use expressions"
    else:
        expressions = read_expressions(
            source,
            splits=splits,
            first_sentence_only=first_sentence_only,
            one_object_per_image=one_object_per_image,
        )
        statements = resolved_statements(resolve_images(expressions, catalog.images()))
        trained_on = f"{expressions}, of which {len(statements)} are about images of the index"
        undetected = 0.0
        advice = "add more, or learn from the index itself with --refs pseudo"
    if (described := len({statement.key for statement in statements})) < MIN_IMAGES:
        made = "pseudo-queries" if source == "pseudo" else "expressions"
        raise GroundingError(
            f"there are {made} for {counted(described, 'image')}, and training needs at least "
            f"{MIN_IMAGES}; {advice}"
        )
    rows = {
        (row.shard, row.row): row
        for number in catalog.shard_files()
        for row in catalog.live_rows(number)
    }
    checkpoint = catalog.directory / CHECKPOINT_FILE
    fit = fit_matcher(
        store,
        encoder,
        statements,
        kind=kind,
        options=options,
        device=device,
        checkpoint=checkpoint,
        start=start,
        current=current,
        rows=rows,
        trained_on=trained_on,
        undetected=undetected,
    )
    if not fit.problem:
        curve, plot = CURVE_FILES
        files = {
            MATCHER_FILE: fit.matcher.as_bytes(),
            curve: fit.history.as_csv().encode(),
            plot: plot_history(fit.history),
        }
        before_saving()
        install_files(catalog.directory, files)
        fit = replace(fit, installed=True)
    checkpoint.unlink(missing_ok=True)
    return fit


def _current_matcher(load: Callable[[], Matcher], fine_tune: bool) -> Matcher | None:
    """Return the matcher in use, or None if it cannot be used and training starts from scratch."""
    try:
        current = load()
    except ModelError:  # of a different encoder or release, which training replaces
        if fine_tune:
            raise
        return None
    if fine_tune and not isinstance(current, TrainedMatcher):
        raise GroundingError(
            "the index answers by cosine, so there is no matcher to fine-tune; train one first"
        )
    return current
