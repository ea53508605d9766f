"""Fine-tune the former encoder on regions that people described.

Trained are the upper image layers, both projections and the text tower. The frozen layers' output
comes from `regions.py`.
"""

from __future__ import annotations

import copy
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from open_clip import IMAGENET_CLASSNAMES
from torch import nn

from retrieval_grounding.finetuning.clip.losses import memory_losses

from .dual_encoder import DualEncoder
from .region_batches import RegionBatch, RegionSampler
from .region_losses import CaptionLoss, Embedded, name_losses, phrase_losses
from .regions import RegionCache
from .texts import COCO_NAMES, Caption

STEPS = 520

_IMAGE_RATE, _HEAD_RATE, _TEXT_RATE = 3e-4, 4e-4, 4e-5
_DECAY = 0.05
_RISE = 20
_AVERAGE = 0.995
_DROPOUT = 0.1
_PROMPTS = ("{}", "a {}", "a photo of a {}", "the {}")
_BANK_NOUNS = 6000
_BANK_A_STEP = 96
_SHORTER_WINDOW = 1  # maps are cut to a window of this many cells less, half of the time


def fine_tune(
    former: DualEncoder,
    cache: RegionCache,
    sampler: RegionSampler,
    captions: Sequence[Caption],
    *,
    steps: int,
    seed: int,
) -> DualEncoder:
    """Return the running average of an encoder trained on batches of `sampler`.

    Parameters
    ----------
    former : DualEncoder
        Start, on the device to train on; not changed.
    cache : RegionCache
        Output of its frozen layers.
    sampler : RegionSampler
        Draws the batches, in a thread of its own.
    captions : sequence of Caption
        Training captions, whose noun phrases are to be remembered.
    steps : int
        Number of batches.
    seed : int
        For windows, prompts, phrases to remember and dropout.
    """
    torch.manual_seed(seed)
    training = _Training(former, captions, seed)
    began, sums, done = time.monotonic(), defaultdict(list), 0
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(_prepare, sampler, cache)
        for step, optimizer in _steps(training.encoder, steps):
            batch, maps = upcoming.result()
            if step + 1 < steps:
                upcoming = thread.submit(_prepare, sampler, cache)
            losses = training.losses(batch, maps)
            optimizer.zero_grad(set_to_none=True)
            torch.stack([*losses.values()]).sum().backward()
            for group in optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], 1.0)
            optimizer.step()
            training.update_average(step)
            for name, loss in losses.items():
                sums[name].append(float(loss.detach()))
            done += 1
            if step % 20 == 19 or step in (0, steps - 1):
                means = " ".join(f"{name} {np.mean(values):.3f}" for name, values in sums.items())
                pace = (time.monotonic() - began) / done
                print(f"fine-tune {done} / {steps}: {means}, {pace:.2f} s/step", flush=True)
                sums.clear()
    return training.average.eval()


class _Training:
    """The encoder that is trained, its running average, and what the former one remembers."""

    def __init__(self, former: DualEncoder, captions: Sequence[Caption], seed: int) -> None:
        self._former = former.eval()
        self._random = np.random.default_rng(seed)
        self._caption_loss = CaptionLoss()
        nouns = dict.fromkeys(phrase for caption in captions for phrase in caption.noun_phrases)
        self._bank = [*IMAGENET_CLASSNAMES, *list(nouns)[:_BANK_NOUNS]]
        self._former_bank = torch.from_numpy(former.embed_phrases(self._bank)).to(former.device)
        self.encoder = copy.deepcopy(former)
        self.average = copy.deepcopy(former)

    def losses(self, batch: RegionBatch, maps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the losses of a batch, given the maps (n, 192, 7, 7) of its rows."""
        self.encoder.eval()
        self.encoder.text.train()  # dropout; there is no BatchNorm to protect in the image layers
        chosen = self._random.choice(len(self._bank), _BANK_A_STEP, replace=False)
        prompt = _PROMPTS[self._random.integers(len(_PROMPTS))]
        texts = [
            batch.phrases,
            batch.captions,
            [prompt.format(name) for name in COCO_NAMES],
            [phrase for _, phrase in batch.changed],
            batch.color_phrases,
            [self._bank[number] for number in chosen],
        ]
        said = self.encoder.say([text for part in texts for text in part])
        maps = maps.to(self.encoder.device).float()
        shown = self.encoder.show(self._varied(maps), dropout=_DROPOUT)
        images = [len(batch.regions), len(batch.named), len(batch.wholes)]
        regions, named, wholes = shown.split(images)
        phrases, captions, names, changed, colors, bank = said.split([*map(len, texts)])
        found = Embedded(
            regions, named, wholes, phrases, captions, names, changed, colors, bank,
            self.encoder.scale,
        )  # fmt: skip
        with torch.no_grad():
            before = self._former.show(maps[: images[0] + images[1]])
        bank_before = self._former_bank[torch.from_numpy(chosen).to(maps.device)]
        return {
            **phrase_losses(found, batch),
            **name_losses(found, batch),
            "captions": self._caption_loss(found, batch.wholes),
            **memory_losses(torch.cat([regions, named]), bank, before, bank_before),
        }

    def update_average(self, step: int) -> None:
        """Let the running average follow, faster at first."""
        kept = min(_AVERAGE, (1 + step) / (10 + step))
        current = self.encoder.state_dict()
        with torch.no_grad():
            for name, value in self.average.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(current[name], 1 - kept)

    def _varied(self, maps: torch.Tensor) -> torch.Tensor:
        """Mirror half of the maps, and cut a window, the same for all, from them."""
        mirrored = torch.from_numpy(self._random.random(len(maps)) < 0.5).to(maps.device)
        maps = torch.where(mirrored.view(-1, 1, 1, 1), maps.flip(3), maps)
        side = maps.shape[-1]
        window = side - int(self._random.integers(_SHORTER_WINDOW + 1))
        top, left = self._random.integers(0, side - window + 1, 2)
        return maps[:, :, top : top + window, left : left + window]


def _prepare(sampler: RegionSampler, cache: RegionCache) -> tuple[RegionBatch, torch.Tensor]:
    """Draw a batch and read its maps."""
    batch = sampler.draw()
    return batch, torch.from_numpy(cache.maps[batch.rows])


def _steps(encoder: DualEncoder, count: int) -> Iterator[tuple[int, torch.optim.Optimizer]]:
    """Yield step numbers while the rates rise and then fall as a cosine."""
    encoder.requires_grad_(True)
    encoder.frozen.requires_grad_(False)
    projection = [*encoder.text.proj.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": [*encoder.image_head.parameters(), *projection], "lr": _HEAD_RATE},
            {"params": [encoder.log_scale], "lr": _HEAD_RATE, "weight_decay": 0.0},
            {"params": [*encoder.upper.parameters()], "lr": _IMAGE_RATE},
            {"params": [*encoder.text.transformer.parameters()], "lr": _TEXT_RATE},
        ],
        weight_decay=_DECAY,
        betas=(0.9, 0.98),
    )
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / _RISE, 0.505 + 0.495 * math.cos(math.pi * step / count)),
    )
    for step in range(count):
        yield step, optimizer
        rates.step()
