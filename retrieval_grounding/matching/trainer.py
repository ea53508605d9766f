"""Training a matcher from cached features: listwise inside each image, and yes or no overall."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from torch.utils import deterministic

from ..core.errors import GroundingError
from ..core.progress import progress_bar
from .batch import ImageBatch
from .dataset import Examples, RegionSource
from .losses import LISTWISE_FROM, cosine_loss, listwise_loss, truth_overlap, yes_no_loss
from .model import MatcherModel, PhraseBatch
from .train_state import Epoch, TrainingOptions, TrainingRun, TrainingState
from .vocabulary import count_words

__all__ = ["train_model"]


_YES_NO_WEIGHT = 0.3
_DROPPED_REGIONS = 0.1
_SILENT_WORDS = 0.1
_RIVAL_SHARPNESS = 15.0
_SEEN = 0.08


def train_model(
    model: MatcherModel,
    vocabulary: list[str],
    regions: RegionSource,
    training: Examples,
    validation: Examples,
    options: TrainingOptions,
    checkpoint: Path | None = None,
) -> TrainingRun:
    """Train a network in place and leave it with the weights of its best epoch.

    Parameters
    ----------
    model : MatcherModel
        On the device where it shall train.
    vocabulary : list of str
        Words that it knows.
    regions : RegionSource
        Of all images.
    training, validation : Examples
        Of different images.
    options : TrainingOptions
        How.
    checkpoint : Path, optional
        Written after each epoch; if it exists, training goes on from there, to the same result as
        without interruption.

    Raises
    ------
    GroundingError
        If there is nothing to train with.
    ModelError
        If the checkpoint is of another training.
    """
    if not len(training) or not len(validation):
        raise GroundingError(
            f"{len(training)} expressions to train with and {len(validation)} to validate with "
            "are too few; give more expressions, of more images"
        )
    device = next(model.parameters()).device
    trainer = _Trainer(model, vocabulary, regions, options, device)
    state = TrainingState(model, training, options)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint)
    with (
        _repeatable(),
        progress_bar("Training", options.epochs, "epochs", options.progress) as advance,
    ):
        advance(len(state.run.epochs))
        while not state.finished:
            number = len(state.run.epochs) + 1
            loss = trainer.train_epoch(training, state, number)
            measured = trainer.validate(validation)
            state.add(Epoch(number, loss, *measured))
            if checkpoint is not None:
                state.save(checkpoint)
            advance(1)
    model.load_state_dict(state.best_weights)
    model.eval()
    return state.run


@contextmanager
def _repeatable() -> Iterator[None]:
    """Let gradients of rows that are used several times be summed in the same order every time."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    memory: Any = deterministic
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # filling costs time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled


class _Trainer:
    def __init__(
        self,
        model: MatcherModel,
        vocabulary: list[str],
        regions: RegionSource,
        options: TrainingOptions,
        device: torch.device,
    ) -> None:
        self.model = model
        self.words = {word: number for number, word in enumerate(vocabulary)}
        self.regions = regions
        self.options = options
        self.device = device

    def train_epoch(self, examples: Examples, state: TrainingState, number: int) -> float:
        """Run one epoch, whose random choices depend on its number alone; return the loss."""
        random = np.random.default_rng([self.options.seed, number])
        torch.manual_seed(self.options.seed * 1000 + number)
        batches = list(_image_batches(examples, self.options.batch, random))
        total = len(batches) * self.options.epochs
        self.model.train()
        losses = []
        for place, rows in enumerate(batches):
            rate = _rate((number - 1) * len(batches) + place, total) * self.options.rate
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            loss = self._loss(examples.take(rows), random)
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            state.optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    @torch.inference_mode()
    def validate(self, examples: Examples) -> tuple[float, float, float]:
        """Return listwise loss, accuracy at IoU 0.5 and mean IoU."""
        self.model.eval()
        examples = examples.take(np.flatnonzero(np.isfinite(examples.boxes).all(1)))
        losses, overlaps = [], []
        for rows in _image_batches(examples, self.options.batch, None):
            batch = examples.take(rows)
            images, place = np.unique(batch.image, return_inverse=True)
            table = self.regions.batch(torch.from_numpy(images).to(self.device))
            said, phrase = self._phrases(batch, batch.phrase)
            image = torch.from_numpy(place).to(self.device)
            logits = self.model(said, table, phrase, image).float()
            iou = truth_overlap(self._tensor(batch.boxes), table.boxes[image])
            losses.append(listwise_loss(logits, iou))
            overlaps.append(iou.gather(1, logits.argmax(1, keepdim=True))[:, 0])
        iou = torch.cat(overlaps)
        loss = torch.cat(losses).mean() if losses else iou.new_zeros(())
        return float(loss), float((iou >= 0.5).float().mean()), float(iou.mean())

    def _loss(self, batch: Examples, random: np.random.Generator) -> torch.Tensor:
        images, place = np.unique(batch.image, return_inverse=True)
        count = len(images)
        flipped = random.random(count) < 0.5
        table = self.regions.batch(torch.from_numpy(images).to(self.device))
        table = table.mirrored(torch.from_numpy(flipped).to(self.device))
        if self.options.noise:
            table = _blurred(table, self.options.noise, random)
        turned = flipped[place]
        truths = batch.boxes.copy()
        truths[turned] = np.array([1, 0, 1, 0]) + truths[turned][:, [2, 1, 0, 3]] * [-1, 1, -1, 1]
        said, phrase = self._phrases(batch, np.where(turned, batch.mirrored, batch.phrase), random)
        own = torch.from_numpy(place).to(self.device)
        truth = self._tensor(truths.astype(np.float32))
        located = truth.isfinite().all(1)
        iou = truth_overlap(truth.nan_to_num(), table.boxes[own])
        table = table.without(self._dropped(table, iou, own, random))
        image = own
        if count > 1:
            other = (place + random.integers(1, count, len(place))) % count
            asked, rivals = _rival_images(said, table, own, iou, located, random)
            image = torch.cat([own, torch.from_numpy(other).to(self.device), rivals])
            phrase = torch.cat([phrase, phrase, phrase[asked]])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.model(said, table, phrase, image).float()
        overlap = iou.masked_fill(~table.present[own], 0)
        cosines = torch.einsum("knd,kd->kn", table.embeddings[own], said.embeddings)
        listwise = torch.where(
            located,
            listwise_loss(logits[: len(own)], overlap),
            cosine_loss(logits[: len(own)], cosines, table.present[own]),
        )
        yes_no = yes_no_loss(logits, overlap, located, table.present[image])
        return listwise.mean() + _YES_NO_WEIGHT * yes_no.sum() / (2 * len(own))

    def _dropped(
        self, table: ImageBatch, iou: torch.Tensor, own: torch.Tensor, random: np.random.Generator
    ) -> torch.Tensor:
        """Choose regions to leave out: none that answers a phrase, and never the whole image."""
        shape = tuple(table.present.shape)
        chosen = torch.from_numpy(random.random(shape) < _DROPPED_REGIONS).to(self.device)
        needed = torch.zeros(shape, device=self.device).index_add_(
            0, own, (iou >= LISTWISE_FROM).float()
        )
        chosen &= needed == 0
        chosen[:, 0] = False
        return chosen

    def _phrases(
        self,
        batch: Examples,
        numbers: npt.NDArray[np.int64],
        random: np.random.Generator | None = None,
    ) -> tuple[PhraseBatch, torch.Tensor]:
        """Return the phrases of a batch, some without their words, and each example's number."""
        texts = [batch.phrases.texts[number] for number in numbers]
        if random is not None:
            silent = random.random(len(texts)) < _SILENT_WORDS
            texts = ["" if quiet else text for text, quiet in zip(texts, silent, strict=True)]
        words, starts = count_words(texts, self.words)
        said = PhraseBatch(
            self._tensor(batch.phrases.embeddings[numbers]),
            words.to(self.device),
            starts.to(self.device),
        )
        return said, torch.arange(len(numbers), device=self.device)

    def _tensor(self, array: npt.NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def _blurred(table: ImageBatch, noise: float, random: np.random.Generator) -> ImageBatch:
    """Shift each embedding by the difference of two others, by other amounts in each image."""
    known = table.embeddings[table.present]
    shape = table.embeddings.shape[:2]
    first, second = (
        known[torch.from_numpy(random.integers(0, len(known), shape)).to(known.device)]
        for _ in range(2)
    )
    amount = noise * torch.from_numpy(random.random((shape[0], 1, 1), np.float32))
    moved = table.embeddings + amount.to(known.device) * (first - second)
    moved = functional.normalize(moved, dim=-1).masked_fill(~table.present[..., None], 0)
    return replace(table, embeddings=moved)


def _rival_images(
    said: PhraseBatch,
    table: ImageBatch,
    own: torch.Tensor,
    iou: torch.Tensor,
    located: torch.Tensor,
    random: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose images that look to cosine like an answer and are none: "orange", where apples lie.

    An image that has a region of the label that the phrase means may be an answer, so it is never
    chosen; what an unlocated phrase means has no label.

    Returns
    -------
    int64 tensors of shape (r,)
        Numbers of phrases, and their images.
    """
    with torch.no_grad():
        cosine = torch.einsum("pd,mnd->pmn", said.embeddings, table.embeddings)
        near = cosine.masked_fill(~table.present, -1).amax(-1)
        meant = iou.argmax(1)
        label = table.labels[own].gather(1, meant[:, None])
        seen = table.present & (table.scores > _SEEN)
        likely = ((table.labels[None] == label[:, None]) & seen).any(-1)
        likely.scatter_(1, own[:, None], True)
        drawn = torch.from_numpy(random.gumbel(size=tuple(near.shape)).astype(np.float32))
        order = (_RIVAL_SHARPNESS * near + drawn.to(near.device)).masked_fill(likely, -torch.inf)
        asked = torch.nonzero(located & (meant > 0) & ~likely.all(1))[:, 0]
        return asked, order[asked].argmax(1)


def _image_batches(
    examples: Examples, size: int, random: np.random.Generator | None
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield rows of about `size` examples, all of an image together."""
    order = np.argsort(examples.image, kind="stable")
    edges = np.flatnonzero(np.diff(examples.image[order])) + 1
    groups = np.split(order, edges)
    numbers = np.arange(len(groups)) if random is None else random.permutation(len(groups))
    batch: list[npt.NDArray[np.int64]] = []
    gathered = 0
    for number in numbers.tolist():
        batch.append(groups[number])
        gathered += len(groups[number])
        if gathered >= size:
            yield np.concatenate(batch)
            batch, gathered = [], 0
    if batch:
        yield np.concatenate(batch)


def _rate(step: int, total: int) -> float:
    rise = max(1, total // 20)
    return min((step + 1) / rise, 0.505 + 0.495 * math.cos(math.pi * step / total))
