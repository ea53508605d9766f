"""Fitting a matcher: train its network on statements, then calibrate it on held-out images."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch

from ..core.errors import GroundingError, ModelError
from ..core.text import counted
from ..core.types import RowKey
from ..models.encoder import Encoder
from ..storage.region_store import RegionStore
from ..storage.rows import LiveRow
from .batch import RegionTensors
from .calibrate import UNDETECTED, calibrate, descriptions_in
from .choice import choose, compare_all
from .comparison import Comparison
from .config import MatcherConfig
from .contrasts import add_contrasts
from .cosine_scale import stored_cosine_scale
from .dataset import Examples
from .exit_pairs import exit_pairs
from .fit_early_exit import fit_early_exit
from .fit_result import Fit
from .held_out import HeldOut
from .interpolation import networks_on_the_way
from .label_matcher import label_matcher
from .matcher import CosineMatcher, Matcher
from .names import BUNDLED, COSINE, COSINE_LABEL
from .networks import make_model
from .options import TrainingOptions
from .recipe import Recipe
from .region_source import open_regions
from .residual_model import ResidualModel, set_cosine_scale
from .split import Split, content_groups, split_examples
from .statements import Statement, make_examples
from .stored import StoredMatcher, network_of
from .trained import TrainedMatcher
from .trainer import train_model
from .training_images import TrainingImages
from .vocabulary import frequent_words

__all__ = ["MIN_IMAGES", "fit_matcher"]


MIN_IMAGES = 10
"""Images with different contents that training needs at least."""

_MIN_WORD_COUNT = 8
_MAX_WORDS = 4000
_NONE: Mapping[str, Matcher] = MappingProxyType({})


def fit_matcher(
    store: RegionStore,
    encoder: Encoder,
    statements: Sequence[Statement],
    *,
    kind: Literal["residual", "concat"] = "residual",
    any_encoder: bool = False,
    options: TrainingOptions | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
    start: TrainedMatcher | None = None,
    rivals: Mapping[str, Matcher] = _NONE,
    in_use: str | None = None,
    rows: Mapping[RowKey, LiveRow] | None = None,
    trained_on: str = "",
    undetected: float = UNDETECTED,
) -> Fit:
    """Train a matcher on cached features and calibrate it on images that it has not seen.

    A tenth of the images decides when training stops, and a tenth calibrates (if statements are
    marked to be held out, half of their images each); copies of an image are never on both sides.
    On these it is decided what to combine with the network
    (see :mod:`.choice`), and the result is compared with cosine, ``cosine+label`` and `rivals`. If
    people wrote some of the statements, only these count there. Regions stay on the device if half
    of its free memory holds them; otherwise each batch is read from the shards.

    Parameters
    ----------
    store : RegionStore
        The index's regions.
    encoder : Encoder
        Embeds the phrases, each once.
    statements : sequence of Statement
        What to learn from.
    kind : str
        ``"residual"`` or ``"concat"``.
    any_encoder : bool
        Train a residual network that sees only how similar embeddings are, and so serves every
        encoder.
    options : TrainingOptions, optional
        How to train.
    device : str
        Where to train.
    checkpoint : Path, optional
        Lets an interrupted run resume; the caller deletes the file afterwards.
    start : TrainedMatcher, optional
        Fine-tune this matcher, with its vocabulary and kind, instead of training from scratch.
        Suited to a few hundred expressions. Its training images are not held out, as far as it
        has recorded them and others can be.
    rivals : mapping of str to Matcher
        Others that must not be better: the matcher in use, the bundled one.
    in_use : str, optional
        Which of them, or of ``"cosine"`` and ``"cosine+label"``, is in use.
    rows : mapping of (shard, row) to LiveRow, optional
        What the catalog knows about the images; without it, contents are neither compared nor
        recorded.
    trained_on : str
        Description of the data, stored with the matcher.
    undetected : float
        Share of the phrases for which calibration removes the target: for pseudo-queries, which
        only name what was detected.

    Raises
    ------
    GroundingError
        If there are statements about fewer than ten images, or fewer than two with boxes, or if a
        network of this kind cannot serve any encoder.
    ModelError
        If `start` was trained for a different encoder, or the checkpoint does not fit.
    """
    options = options or TrainingOptions()
    keys = list(dict.fromkeys(statement.key for statement in statements))
    groups = content_groups(keys, rows)
    if (contents := len(np.unique(groups))) < MIN_IMAGES:
        raise GroundingError(
            f"there are expressions for {counted(contents, 'image')}, and training needs at least "
            f"{MIN_IMAGES}; add more"
        )
    if any_encoder and kind != "residual":
        raise GroundingError(f"a {kind} network sees embeddings, so it cannot serve any encoder")
    scale = stored_cosine_scale(store, keys)
    if start is not None:
        start = start.for_encoder(encoder.fingerprint, scale)
    if kind == "residual":
        statements = add_contrasts(statements, options.seed)
    examples = make_examples(statements, keys, encoder)
    regions = open_regions(store, keys, device)
    apart = {statement.key for statement in statements if statement.held_out}
    named = np.array([key in apart for key in keys], bool)
    split = split_examples(examples, groups, _seen(start, keys, rows), options.seed, named)
    if start is None:
        dimension = 0 if any_encoder else encoder.dimension
        matcher = _new_matcher(kind, dimension, split.training, encoder, options.seed, device)
        if scale is not None:
            set_cosine_scale(matcher.model, scale)
    else:
        matcher = _trainable_copy(start, encoder, device)
    matcher.trained_on = trained_on
    matcher.images = _record_images(split, keys, rows, start)
    history = train_model(
        matcher.model,
        matcher.vocabulary,
        regions,
        split.training,
        split.validation,
        options,
        checkpoint,
        _origin(keys, rows, encoder),
    )
    matcher.model.requires_grad_(False)
    notes = []
    if split.reused:
        notes.append(
            f"{counted(split.reused, 'held-out image')} had trained the matcher that this one "
            "started from, so its figures on them are too good; add expressions about new images"
        )
    stored, share, comparisons = StoredMatcher(matcher, Recipe()), 1.0, list[Comparison]()
    problem = f"training diverged in epoch {history.diverged}; use a lower --lr than {options.lr}"
    if history.diverged is None:
        try:
            decided = _decide(
                matcher,
                start,
                store,
                keys,
                examples,
                split,
                rivals,
                in_use,
                rows,
                options,
                undetected,
            )
            stored, share, comparisons, more_notes = decided
            fit_early_exit(matcher, exit_pairs(store, keys, split.training, options.seed))
            notes += more_notes
            problem = next((c.problem for c in comparisons if c.problem), "")
        except ModelError as error:
            problem = f"{error}, or use a lower --lr than {options.lr}"
    resident = isinstance(regions, RegionTensors)
    return Fit(
        matcher,
        history,
        len(keys),
        len(examples),
        resident,
        stored,
        share,
        comparisons=comparisons,
        problem=problem,
        notes=notes,
    )


def _decide(
    matcher: TrainedMatcher,
    start: TrainedMatcher | None,
    store: RegionStore,
    keys: Sequence[RowKey],
    examples: Examples,
    split: Split,
    rivals: Mapping[str, Matcher],
    in_use: str | None,
    rows: Mapping[RowKey, LiveRow] | None,
    options: TrainingOptions,
    undetected: float,
) -> tuple[StoredMatcher, float, list[Comparison], list[str]]:
    """Choose what to make of a trained network, calibrate it, and compare it with others.

    Returns what to store, how far it is from its start, the comparisons, and notes about them. The
    weights of `matcher` become those that were chosen.
    """
    label = label_matcher(store, keys)
    parts = [split.validation, split.calibration]
    generated = not any((part.located & ~part.generated).any() for part in parts)
    if not generated:
        parts = [part.take(~part.generated) for part in parts]
    halves = [HeldOut(store, keys, part, options.seed) for part in parts]
    networks = networks_on_the_way(matcher, start, generated)
    anchors = {BUNDLED: rivals[BUNDLED]} if BUNDLED in rivals else {}
    choice = choose(
        halves, networks, label, {**anchors, COSINE_LABEL: label}, only_anchored=generated
    )
    share = choice.candidate.share
    if share < 1:
        matcher.model.load_state_dict(networks[share].model.state_dict())
    others = {**rivals, COSINE: CosineMatcher(), COSINE_LABEL: label}
    trained = {name: network_of(rival) for name, rival in rivals.items()}
    fair = {name: ~_seen(network, keys, rows) for name, network in trained.items() if network}
    comparisons, left_out = compare_all(choice, halves, others, in_use, fair)
    notes = [
        f"{'the matcher in use' if name == in_use else name} was trained on all held-out images, "
        "so the two are not compared"
        for name in left_out
    ]
    stored = StoredMatcher(matcher, choice.candidate.recipe)
    if stored.recipe.anchor != BUNDLED:  # that has its own calibration
        unseen = np.unique(split.held_out.image)
        calibration = calibrate(
            stored.prepared(),
            store,
            [keys[image] for image in unseen.tolist()],
            parts[1].of_images(unseen),
            descriptions_in(examples.of_images(unseen), len(unseen)),
            options.seed,
            undetected=undetected if generated else 0.0,
        )
        stored = replace(stored, calibration=calibration)
        if stored.recipe.is_plain:
            matcher.calibration = calibration
    return stored, share, comparisons, notes


def _seen(
    start: TrainedMatcher | None, keys: Sequence[RowKey], rows: Mapping[RowKey, LiveRow] | None
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return whether each image is known to have trained a matcher, (images,)."""
    record = None if start is None else start.images
    if record is None or rows is None:
        return np.zeros(len(keys), bool)
    return np.array([record.trained_on(rows[key].content_hash) for key in keys], bool)


def _record_images(
    split: Split,
    keys: Sequence[RowKey],
    rows: Mapping[RowKey, LiveRow] | None,
    start: TrainedMatcher | None,
) -> TrainingImages | None:
    if rows is None:
        return None
    record = TrainingImages.of(
        *(
            [rows[keys[image]].content_hash for image in np.unique(part.image).tolist()]
            for part in (split.training, split.validation, split.calibration)
        )
    )
    if start is None or start.images is None:
        return record
    return TrainingImages(
        record.training | start.images.training, record.validation, record.calibration
    )


def _origin(keys: Sequence[RowKey], rows: Mapping[RowKey, LiveRow] | None, encoder: Encoder) -> str:
    """Return a hash of the images' contents and regions, and of the encoder's identity."""
    print_ = encoder.fingerprint
    digest = hashlib.blake2b(f"{print_.weights}\0{print_.preprocessing}".encode(), digest_size=16)
    for key in keys:
        row = None if rows is None else rows[key]
        about = str(key) if row is None else f"{row.content_hash} {row.checksum}"
        digest.update(f"\0{about}".encode())
    return digest.hexdigest()


def _new_matcher(
    kind: Literal["residual", "concat"],
    dimension: int,
    training: Examples,
    encoder: Encoder,
    seed: int,
    device: str,
) -> TrainedMatcher:
    """Return an untrained matcher; the residual network knows the frequent words of `training`."""
    vocabulary: list[str] = []
    if kind == "residual":
        texts = [training.phrases.texts[row] for row in training.phrase]
        vocabulary = frequent_words(texts, _MIN_WORD_COUNT, _MAX_WORDS)
    config = MatcherConfig(kind, dimension, len(vocabulary))
    with torch.random.fork_rng(devices=[]):  # the global generator belongs to the user
        torch.default_generator.manual_seed(seed)
        model = make_model(config)
    return TrainedMatcher(model.to(device), config, vocabulary, encoder.fingerprint)


def _trainable_copy(matcher: TrainedMatcher, encoder: Encoder, device: str) -> TrainedMatcher:
    """Return a matcher with a copy of the network that can be trained, and no calibration."""
    model = copy.deepcopy(matcher.model)
    if isinstance(model, ResidualModel):
        model.early = None  # of other weights
    model = model.requires_grad_(True).to(device)
    return TrainedMatcher(model, matcher.config, matcher.vocabulary, encoder.fingerprint)
