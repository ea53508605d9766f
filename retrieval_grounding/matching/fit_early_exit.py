"""Training a matcher's early exit: it learns to keep the regions that the whole network prefers."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from .early_exit import KEPT_REGIONS, EarlyExit
from .encode_pass import encode_pass
from .flat_images import FlatImages
from .flat_model import FlatModel
from .flat_phrases import read_phrases
from .flat_scores import states_before_attention
from .phrase_batch import make_phrase_batch
from .residual_model import ResidualModel
from .trained import TrainedMatcher

__all__ = ["ExitFit", "fit_early_exit"]


_SHARPNESS = 2.0  # of the targets: the winner counts, and what nearly wins
_IMAGES_PER_STEP = 256
_MAX_STEPS = 700
_MIN_STEPS = 100
_PAIRS_PER_STEP = 12
_LR = 3e-3
_WEIGHT_DECAY = 1e-3
_SEED = 0
_LEAST_KEPT = 0.99
_HELD_OUT = 0.1


@dataclass(frozen=True)
class ExitFit:
    """How an early exit was trained.

    Parameters
    ----------
    images : int
        Pairs of phrase and image that were seen.
    kept : float
        In which share of held-out pairs the region that wins is kept.
    seconds : float
        How long it took.
    """

    images: int
    kept: float
    seconds: float


@dataclass(frozen=True)
class _Table:
    """What the head learns from: regions, image by image."""

    inputs: torch.Tensor
    targets: torch.Tensor
    starts: torch.Tensor
    counts: torch.Tensor

    def padded(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the inputs (b, n, width + 1), targets (b, n) and padding of some images."""
        counts = self.counts[images]
        columns = torch.arange(int(counts.max()))
        missing = columns >= counts[:, None]
        rows = self.starts[images][:, None] + torch.minimum(columns, counts[:, None] - 1)
        return self.inputs[rows], self.targets[rows].masked_fill(missing, -torch.inf), missing


def fit_early_exit(
    matcher: TrainedMatcher, pairs: Iterable[tuple[Phrases, RegionTable]]
) -> ExitFit | None:
    """Give a matcher an early exit, in place, by distillation from its own scores.

    10,000 pairs of phrase and image take half a minute. Without embeddings, or if the exit loses
    the winner too often, the matcher has none afterwards and scores all regions.

    Parameters
    ----------
    matcher : TrainedMatcher
        Already trained.
    pairs : iterable of (Phrases, RegionTable)
        One phrase each, with the images that a search for it would look at; some of them should
        show what it describes.

    Returns
    -------
    ExitFit or None
        None if the matcher's network has no early exit.
    """
    began = time.monotonic()
    model = matcher.model
    if not isinstance(model, ResidualModel) or not model.sees_embeddings:
        return None
    model.early = None
    on_cpu = matcher
    if matcher.device.type != "cpu":
        on_cpu = replace(matcher, model=copy.deepcopy(model).cpu())
    table = _collect(on_cpu, pairs)
    if table is None:
        return None
    random = np.random.default_rng(_SEED)
    order = torch.from_numpy(random.permutation(len(table.counts)))
    held_out = max(1, round(_HELD_OUT * len(order)))
    learned = order[held_out:] if held_out < len(order) else order
    head = _train(model.width, table, learned, random)
    kept = _share_kept(head, table, order[:held_out])
    if kept >= _LEAST_KEPT:
        model.early = head.requires_grad_(False).eval().to(matcher.device)
    return ExitFit(len(order), kept, time.monotonic() - began)


@torch.no_grad()
def _collect(
    matcher: TrainedMatcher, pairs: Iterable[tuple[Phrases, RegionTable]]
) -> _Table | None:
    model = matcher.model
    assert isinstance(model, ResidualModel)
    inputs, targets, counts = [], [], []
    flat, word_ids = FlatModel(model), matcher.word_ids
    for phrases, regions in pairs:
        known = encode_pass(model, regions)
        if known is None:
            continue
        phrase_rows = np.zeros(len(regions.offsets) - 1, np.int64)
        scores = matcher.score_pairs(phrases, regions, phrase_rows)
        read = read_phrases(flat, make_phrase_batch(phrases, word_ids))
        images, ends = FlatImages.of(regions, known), [len(phrase_rows)]
        states = states_before_attention(flat, read, images, ends)
        inputs.append(torch.cat([states.hidden, states.guess[:, None]], 1))
        targets.append(torch.from_numpy(scores))
        counts.append(np.diff(regions.offsets))
    if not inputs:
        return None
    joined: npt.NDArray[np.int64] = np.concatenate(counts)
    starts = np.cumsum(joined) - joined
    return _Table(
        torch.cat(inputs), torch.cat(targets), torch.from_numpy(starts), torch.from_numpy(joined)
    )


def _train(
    width: int, table: _Table, images: torch.Tensor, random: np.random.Generator
) -> EarlyExit:
    """Return a head whose softmax over an image's regions is that of the network's scores."""
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(_SEED)
        head = EarlyExit(width)
    if int(table.counts.max()) <= KEPT_REGIONS:  # all are kept, whatever the head says
        return head
    optimizer = torch.optim.AdamW(head.parameters(), _LR, weight_decay=_WEIGHT_DECAY)
    steps = min(_MAX_STEPS, max(_MIN_STEPS, len(images) // _PAIRS_PER_STEP))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=steps)
    for _ in range(steps):
        drawn = random.integers(len(images), size=min(_IMAGES_PER_STEP, len(images)))
        inputs, targets, missing = table.padded(images[torch.from_numpy(drawn)])
        scores = _scores(head, inputs).masked_fill(missing, -torch.inf)
        shares = functional.softmax(_SHARPNESS * targets, 1)
        logs = functional.log_softmax(scores, 1).masked_fill(missing, 0)
        loss = -(shares * logs).sum(1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return head


def _scores(head: EarlyExit, inputs: torch.Tensor) -> torch.Tensor:
    flat = inputs.flatten(0, 1)
    scores: torch.Tensor = head(flat[:, :-1], flat[:, -1]).view(inputs.shape[:2])
    return scores


@torch.no_grad()
def _share_kept(head: EarlyExit, table: _Table, images: torch.Tensor) -> float:
    inputs, targets, missing = table.padded(images)
    scores = _scores(head, inputs).masked_fill(missing, -torch.inf)
    winners = targets.argmax(1, keepdim=True)
    better = (scores > scores.gather(1, winners)).sum(1)
    return float((better < KEPT_REGIONS).float().mean())
