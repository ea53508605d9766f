"""Training an index's matcher: from expressions or pseudo-queries to the files in the index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from ..core.errors import GroundingError
from ..core.text import counted
from ..core.types import PathLike
from ..data.expressions import read_expressions
from ..data.resolve import resolve_images
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from .calibrate import UNDETECTED
from .fit import Fit, fit_matcher
from .load import MATCHER_FILE
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
    start: Matcher | None,
    before_saving: Callable[[], None],
) -> Fit:
    """Fit a matcher and write it into the index, with its learning curve.

    The caller holds the writer's lock, which `before_saving` checks. See
    :meth:`retrieval_grounding.Index.train`.
    """
    if start is not None and not isinstance(start, TrainedMatcher):
        raise GroundingError(
            "the index answers by cosine, so there is no matcher to fine-tune; train one first"
        )
    store = RegionStore(catalog)
    options = options or TrainingOptions()
    if source == "pseudo":
        keys = dict.fromkeys((image.shard, image.row) for image in catalog.images())
        statements = pseudo_statements(store, keys, options.seed)
        trained_on = f"pseudo-queries of {counted(len(keys), 'image')}"
        undetected = UNDETECTED
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
    checkpoint = catalog.directory / "matcher.training"
    fit = fit_matcher(
        store,
        encoder,
        statements,
        kind=kind,
        options=options,
        device=device,
        checkpoint=checkpoint,
        start=start,
        trained_on=trained_on,
        undetected=undetected,
    )
    before_saving()
    fit.matcher.save(catalog.directory / MATCHER_FILE)
    fit.history.write_csv(catalog.directory / "matcher-curve.csv")
    plot_history(fit.history, catalog.directory / "matcher-curve.png")
    checkpoint.unlink(missing_ok=True)
    return fit
