"""The training loop: batches → losses → weights, with a checkpoint from which it resumes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ...core.interrupt import graceful_interrupt
from ...core.progress import progress_bar
from ..run_folder import RunFolder
from .batches import RegionBatch, RegionSampler
from .layers import Trained
from .losses import caption_loss, memory_losses, phrase_losses
from .options import ClipTuningOptions
from .region_cache import RegionCache
from .towers import ClipTowers

__all__ = ["train_towers"]

_BANK_A_STEP = 96
_WARM_UP = 0.1
_LAST_RATE = 0.01
_CHECKPOINT_SECONDS = 60.0
_CAPTION_WEIGHT = 0.5

_log = logging.getLogger(__name__)


def train_towers(
    run: RunFolder,
    name: str,
    towers: ClipTowers,
    sampler: RegionSampler,
    cache: RegionCache,
    bank: Sequence[str],
    options: ClipTuningOptions,
) -> list[float] | None:
    """Train a model whose lower layers are cut off, and merge what was trained into its weights.

    Parameters
    ----------
    run : RunFolder
        Has the checkpoint.
    name : str
        Of the checkpoint; other options need another one.
    towers : ClipTowers
        The original model; it is changed.
    sampler : RegionSampler
        Draws the batches.
    cache : RegionCache
        What the lower layers computed.
    bank : sequence of str
        Phrases that are to be remembered.
    options : ClipTuningOptions
        Steps, rates.

    Returns
    -------
    list of float, or None
        The mean loss of each step; None if training diverged.
    """
    former_bank = torch.from_numpy(towers.embed_phrases(bank)).to(towers.device)
    trained = Trained(towers, options)
    rates = [group["lr"] for group in trained.optimizer.param_groups]
    losses: list[float] = []
    if saved := run.load_state(name):
        losses = saved["losses"]
        trained.load(saved["weights"])
        trained.optimizer.load_state_dict(saved["optimizer"])
        _log.info("fine-tuning resumes after step %d, from %s", len(losses), run.path)

    def save() -> None:
        run.save_state(
            name,
            {
                "losses": losses,
                "weights": trained.state(),
                "optimizer": trained.optimizer.state_dict(),
            },
        )

    saved_at = time.monotonic()
    with (
        ThreadPoolExecutor(1, "batches") as ahead,
        graceful_interrupt() as stopping,
        progress_bar("Fine-tuning", options.steps - len(losses), "steps", options.progress) as step,
    ):

        def prepare(number: int) -> tuple[RegionBatch, np.ndarray]:
            batch = sampler.draw(number)
            return batch, np.asarray(cache.inputs[batch.rows])

        total = options.steps * options.accumulate
        upcoming = ahead.submit(prepare, len(losses) * options.accumulate)
        while len(losses) < options.steps:
            for group, rate in zip(trained.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * _rate_factor(len(losses), options.steps)
            trained.optimizer.zero_grad(set_to_none=True)
            parts = []
            for turn in range(options.accumulate):
                batch, inputs = upcoming.result()
                following = len(losses) * options.accumulate + turn + 1
                if following < total:
                    upcoming = ahead.submit(prepare, following)
                random = np.random.default_rng([options.seed, following, 2])
                chosen = random.choice(len(bank), min(_BANK_A_STEP, len(bank)), replace=False)
                loss = _loss(towers, batch, inputs, cache, bank, chosen, former_bank)
                (loss / options.accumulate).backward()  # type: ignore[no-untyped-call]
                parts.append(float(loss.detach()))
            trained.step()
            losses.append(float(np.mean(parts)))
            if not math.isfinite(losses[-1]):
                return None
            step(1)
            late = time.monotonic() - saved_at >= _CHECKPOINT_SECONDS
            if late or stopping() or len(losses) == options.steps:
                save()
                saved_at = time.monotonic()
            if stopping():
                raise KeyboardInterrupt
    trained.merge()
    return losses


def _loss(
    towers: ClipTowers,
    batch: RegionBatch,
    inputs: np.ndarray,
    cache: RegionCache,
    bank: Sequence[str],
    chosen: np.ndarray,
    former_bank: Tensor,
) -> Tensor:
    device = towers.device
    half = device.startswith("cuda")
    captions = [caption for _, caption in batch.captioned]
    texts = [*batch.phrases, *captions, *(bank[number] for number in chosen.tolist())]
    with torch.autocast("cuda", torch.bfloat16, enabled=half):
        shown = towers.show(inputs)
        said = towers.say(texts)
    counts = [len(batch.phrases), len(captions), len(chosen)]
    phrases, captioned, remembered = torch.split(said, counts)
    losses = phrase_losses(
        towers.scale * phrases @ shown.T,
        torch.from_numpy(batch.targets).to(device),
        torch.from_numpy(batch.own[:, None] == batch.images[None]).to(device),
        torch.from_numpy(batch.unclear).to(device),
    )
    former = torch.from_numpy(cache.embeddings[batch.rows]).to(device).float()
    rows = torch.from_numpy(chosen).to(device)
    losses |= memory_losses(shown, remembered, former, former_bank[rows])
    if len(captions) > 1:
        firsts = [int(np.argmax(batch.images == image)) for image, _ in batch.captioned]
        losses["captions"] = _CAPTION_WEIGHT * caption_loss(
            towers.scale * shown[firsts] @ captioned.T
        )
    return torch.stack([*losses.values()]).sum()


def _rate_factor(step: int, steps: int) -> float:
    rise = max(1, round(_WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    along = (step - rise) / max(1, steps - rise)
    return _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * along)) / 2
