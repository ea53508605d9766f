"""Training an index's matcher: from expressions or pseudo-queries to the files in the index."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from ..core.errors import GroundingError, ModelError
from ..core.text import counted
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from .bundled import bundled_by_default, bundled_matcher
from .calibrate import UNDETECTED
from .entries import matcher_in_use
from .fit import MIN_IMAGES, fit_matcher
from .fit_result import Fit
from .install import CHECKPOINT_FILE, install_files
from .matcher import Matcher
from .names import BUNDLED, COSINE, COSINE_LABEL, check_name, matcher_files, own_names
from .options import TrainingOptions
from .plots import plot_history
from .sources import Sources, gather_statements
from .stored import network_of
from .trained import TrainedMatcher

__all__ = ["train_index"]


_DEFAULT_NAME = "trained"


def train_index(
    catalog: Catalog,
    encoder: Encoder,
    sources: Sources,
    *,
    splits: Sequence[str] | None,
    held_out: Sequence[str],
    first_sentence_only: bool,
    one_object_per_image: bool,
    kind: Literal["residual", "concat"],
    any_encoder: bool,
    placed: bool,
    name: str | None,
    options: TrainingOptions | None,
    device: str,
    from_scratch: bool,
    load_current: Callable[[], Matcher],
    before_saving: Callable[[], None],
) -> Fit:
    """Fit a matcher and, unless it is worse than what is in use or simpler, use it.

    Its learning curve is written with it. The caller holds the writer's lock, which
    `before_saving` checks. See
    :meth:`retrieval_grounding.Index.train`.
    """
    chosen_name = _new_name(catalog, name)
    options = options or TrainingOptions()
    store = RegionStore(catalog)
    gathered = gather_statements(
        catalog,
        store,
        encoder,
        sources,
        options.seed,
        placed=placed,
        splits=splits,
        held_out=held_out,
        first_sentence_only=first_sentence_only,
        one_object_per_image=one_object_per_image,
    )
    described = len({statement.key for statement in gathered.statements})
    if described < MIN_IMAGES:
        made, advice = "expressions", "add more, or learn from the index itself with --refs pseudo"
        if gathered.only_pseudo:
            made = "pseudo-queries"
            advice = "add images that show several objects the detector knows, or use expressions"
        raise GroundingError(
            f"there are {made} for {counted(described, 'image')}, and training needs at least "
            f"{MIN_IMAGES}; {advice}"
        )
    in_use, rivals = _rivals(catalog, encoder, device, load_current)
    rows = {
        (row.shard, row.row): row
        for number in catalog.shard_files()
        for row in catalog.live_rows(number)
    }
    checkpoint = catalog.directory / CHECKPOINT_FILE
    fit = fit_matcher(
        store,
        encoder,
        gathered.statements,
        kind=kind,
        any_encoder=any_encoder,
        options=options,
        device=device,
        checkpoint=checkpoint,
        start=None if from_scratch else _start(rivals, kind, any_encoder),
        rivals=rivals,
        in_use=in_use,
        rows=rows,
        trained_on=gathered.description,
        undetected=UNDETECTED,
    )
    # A matcher that is worse is kept if the user has named it: to compare others with it.
    if not fit.problem or (name is not None and fit.history.diverged is None):
        weights, curve, plot = matcher_files(chosen_name)
        files = {  # the weights last: a matcher exists when they do
            curve: fit.history.as_csv().encode(),
            plot: plot_history(fit.history),
            weights: fit.stored.as_bytes(),
        }
        before_saving()
        install_files(catalog.directory, files, None if fit.problem else chosen_name)
        fit = replace(fit, installed=not fit.problem, name=chosen_name)
    checkpoint.unlink(missing_ok=True)
    return fit


def _new_name(catalog: Catalog, name: str | None) -> str:
    """Return the name of the matcher to train; no matcher is replaced.

    Raises
    ------
    GroundingError
        If the name is taken, or cannot be one.
    """
    taken = {own.casefold() for own in own_names(catalog.directory)}
    if name is not None:
        check_name(name)
        if name.casefold() in taken:
            raise GroundingError(
                f"{catalog.directory} has a matcher {name!r}; choose a different --name, or remove "
                f"it with 'retrieval-grounding matcher remove {catalog.directory} {name}'"
            )
        return name
    number = 1
    while (free := _DEFAULT_NAME + (f"-{number}" if number > 1 else "")) in taken:
        number += 1
    return free


def _rivals(
    catalog: Catalog, encoder: Encoder, device: str, load_current: Callable[[], Matcher]
) -> tuple[str, dict[str, Matcher]]:
    """Return the name of the matcher in use, and the trained ones to compare with, by name."""
    in_use = matcher_in_use(catalog, encoder.fingerprint)
    rivals: dict[str, Matcher] = {}
    if in_use not in (COSINE, COSINE_LABEL):
        with contextlib.suppress(ModelError):  # of a different encoder or release
            rivals[in_use] = load_current()
    if BUNDLED not in rivals and bundled_by_default(catalog, encoder.fingerprint):
        rivals[BUNDLED] = bundled_matcher(catalog, encoder.fingerprint, device)
    return in_use, rivals


def _start(rivals: dict[str, Matcher], kind: str, any_encoder: bool) -> TrainedMatcher | None:
    """Return the first network of a kind, or None: training starts from scratch then."""
    for rival in rivals.values():
        network = network_of(rival)
        if network and (network.config.kind, network.any_encoder) == (kind, any_encoder):
            return network
    return None
