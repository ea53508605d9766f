"""Training a matcher from cached features: listwise inside each image, and yes or no overall."""

from __future__ import annotations

import csv
import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from ..errors import GroundingError, ModelError
from ..progress import progress_bar
from ..storage.files import atomic_path
from .batches import ImageBatch
from .examples import Examples, RegionSource
from .model import ConcatModel, PhraseBatch, ResidualModel
from .words import count_words

__all__ = ["Epoch", "TrainingOptions", "TrainingRun", "train_model"]

_LISTWISE_FROM = 0.4  # a box that overlaps the truth less is no answer
_CERTAIN = 0.7  # and one that overlaps it more is a full one
_YES_NO_WEIGHT = 0.3
_COSINE_SHARPNESS = 30.0
_DROPPED_REGIONS = 0.1
_SILENT_WORDS = 0.1
_WEIGHT_DECAY = 0.02


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Parameters
    ----------
    epochs : int
        Passes over the examples at most.
    patience : int
        Stop after so many epochs without a better validation accuracy.
    batch : int
        Examples in a batch, about.
    rate : float
        Peak learning rate; it rises for a twentieth of the steps and falls as a cosine.
    seed : int
        For every random choice.
    progress : bool or None
        Show a bar; None shows it on a terminal.
    """

    epochs: int = 20
    patience: int = 5
    batch: int = 256
    rate: float = 1e-3
    seed: int = 0
    progress: bool | None = None


@dataclass(frozen=True)
class Epoch:
    """What an epoch did: mean training loss, and accuracies on the validation images."""

    number: int
    loss: float
    validation_loss: float
    accuracy: float
    mean_iou: float


@dataclass
class TrainingRun:
    """A finished training.

    Parameters
    ----------
    epochs : list of Epoch
        The learning curve.
    best : Epoch
        The one whose weights the network has.
    """

    epochs: list[Epoch] = field(default_factory=list)

    @property
    def best(self) -> Epoch:
        """The epoch with the highest validation accuracy, the first of equals."""
        return max(self.epochs, key=lambda epoch: (epoch.accuracy, epoch.mean_iou, -epoch.number))

    def write_csv(self, path: Path) -> None:
        """Write the learning curve."""
        with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", "loss", "validation_loss", "acc@0.5", "mean_iou"])
            for e in self.epochs:
                writer.writerow([e.number, e.loss, e.validation_loss, e.accuracy, e.mean_iou])


def train_model(
    model: ResidualModel | ConcatModel,
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
    model : ResidualModel or ConcatModel
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
    state = _State(model, training, options)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint)
    with progress_bar("Training", options.epochs, "epochs", options.progress) as advance:
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


class _State:
    """Everything that a killed training needs to go on."""

    def __init__(
        self, model: ResidualModel | ConcatModel, training: Examples, options: TrainingOptions
    ) -> None:
        self.run = TrainingRun()
        self.model = model
        self.options = options
        self.best_weights = _copied(model)
        plain = [value for name, value in model.named_parameters() if not _decays(name, value)]
        decayed = [value for name, value in model.named_parameters() if _decays(name, value)]
        groups = [
            {"params": decayed, "weight_decay": _WEIGHT_DECAY},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, options.rate, betas=(0.9, 0.98))
        self.identity = (
            f"{len(training)} {int(training.image.sum())} {float(training.boxes.sum()):.6g} "
            f"{options.epochs} {options.batch} {options.rate} {options.seed} "
            f"{sum(value.numel() for value in model.parameters())}"
        )

    @property
    def finished(self) -> bool:
        """Whether all epochs are done or accuracy has not grown for some."""
        done = len(self.run.epochs)
        waited = done - self.run.best.number if done else 0
        return done >= self.options.epochs or waited >= self.options.patience

    def add(self, epoch: Epoch) -> None:
        """Take in an epoch that has just ended."""
        self.run.epochs.append(epoch)
        if self.run.best is epoch:
            self.best_weights = _copied(self.model)

    def save(self, path: Path) -> None:
        """Write the checkpoint in one step."""
        epochs = [[e.number, e.loss, e.validation_loss, e.accuracy, e.mean_iou]
                  for e in self.run.epochs]  # fmt: skip
        with atomic_path(path) as temporary:
            torch.save(
                {
                    "identity": self.identity,
                    "epochs": epochs,
                    "model": self.model.state_dict(),
                    "best": self.best_weights,
                    "optimizer": self.optimizer.state_dict(),
                },
                temporary,
            )

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            if saved["identity"] != self.identity:
                raise ModelError(
                    f"{path} is the checkpoint of a training with other expressions or options; "
                    "delete it to start anew"
                )
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.best_weights = saved["best"]
            self.run.epochs = [Epoch(int(row[0]), *map(float, row[1:])) for row in saved["epochs"]]
        except (OSError, KeyError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            raise ModelError(
                f"{path} is no checkpoint ({error}); delete it to start anew"
            ) from error


class _Trainer:
    def __init__(
        self,
        model: ResidualModel | ConcatModel,
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

    def train_epoch(self, examples: Examples, state: _State, number: int) -> float:
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
            losses.append(_listwise(logits, iou))
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
        turned = flipped[place]
        truths = batch.boxes.copy()
        truths[turned] = np.array([1, 0, 1, 0]) + truths[turned][:, [2, 1, 0, 3]] * [-1, 1, -1, 1]
        said, phrase = self._phrases(batch, np.where(turned, batch.mirrored, batch.phrase), random)
        own = torch.from_numpy(place).to(self.device)
        truth = self._tensor(truths.astype(np.float32))
        located = truth.isfinite().all(1)
        iou = truth_overlap(truth.nan_to_num(), table.boxes[own])
        table = table.without(self._dropped(table, iou, own, random))
        if count > 1:
            other = (place + random.integers(1, count, len(place))) % count
            foreign = torch.from_numpy(other).to(self.device)
            phrase, image = torch.cat([phrase, phrase]), torch.cat([own, foreign])
        else:
            image = own
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.model(said, table, phrase, image).float()
        overlap = iou.masked_fill(~table.present[own], 0)
        listwise = torch.where(
            located,
            _listwise(logits[: len(own)], overlap),
            self._as_cosine(logits[: len(own)], said, table, own),
        )
        yes_no = _yes_no(logits, overlap, located, table.present[image])
        return listwise.mean() + _YES_NO_WEIGHT * yes_no.mean()

    def _as_cosine(
        self, logits: torch.Tensor, said: PhraseBatch, table: ImageBatch, own: torch.Tensor
    ) -> torch.Tensor:
        """Return how far the ranking is from that by cosine, (e,).

        Where nobody knows the region, cosine is the best guess, and the residual learns to be
        silent about phrases of that sort.
        """
        cosine = torch.einsum("knd,kd->kn", table.embeddings[own], said.embeddings)
        absent = ~table.present[own]
        wanted = (_COSINE_SHARPNESS * cosine).masked_fill(absent, -torch.inf).softmax(1)
        chances = functional.log_softmax(logits, dim=1).masked_fill(absent, 0)
        return -(wanted * chances).sum(1)

    def _dropped(
        self, table: ImageBatch, iou: torch.Tensor, own: torch.Tensor, random: np.random.Generator
    ) -> torch.Tensor:
        """Choose regions to leave out: none that answers a phrase, and never the whole image."""
        shape = tuple(table.present.shape)
        chosen = torch.from_numpy(random.random(shape) < _DROPPED_REGIONS).to(self.device)
        needed = torch.zeros(shape, device=self.device).index_add_(
            0, own, (iou >= _LISTWISE_FROM).float()
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


def truth_overlap(truths: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Return the IoU of each example's truth (e, 4) with the regions of its image (e, n, 4)."""
    corner = torch.maximum(truths[:, None, :2], boxes[..., :2])
    end = torch.minimum(truths[:, None, 2:], boxes[..., 2:])
    shared = (end - corner).clamp(min=0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    truth = (truths[:, 2:] - truths[:, :2]).prod(-1)
    return shared / (areas + truth[:, None] - shared).clamp(min=1e-9)


def _listwise(logits: torch.Tensor, iou: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy to the boxes that fit, (e,); 0 where none does."""
    wanted = (iou - _LISTWISE_FROM).clamp(min=0)
    total = wanted.sum(1, keepdim=True)
    targets = wanted / total.clamp(min=1e-9)
    chances = functional.log_softmax(logits, dim=1).masked_fill(logits == -torch.inf, 0)
    return -(targets * chances).sum(1)


def _yes_no(
    logits: torch.Tensor, overlap: torch.Tensor, located: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """Return the binary cross-entropy summed over the regions of each pair, (pairs,).

    The first ``len(overlap)`` pairs are of phrases with their own images, the others are of
    phrases with foreign ones, where no region is the answer. Of a phrase that nobody has located
    only the best region counts: one of them must be the answer.
    """
    answers = torch.zeros_like(logits)
    own = len(overlap)
    answers[:own] = ((overlap - _LISTWISE_FROM) / (_CERTAIN - _LISTWISE_FROM)).clamp(0, 1)
    counted = present.clone()
    best = functional.one_hot(logits[:own].argmax(1), logits.shape[1]).bool()
    answers[:own] = torch.where(located[:, None], answers[:own], best.float())
    counted[:own] &= located[:, None] | best
    losses = functional.binary_cross_entropy_with_logits(
        logits.masked_fill(~counted, 0), answers, reduction="none"
    )
    return losses.masked_fill(~counted, 0).sum(1)


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


def _decays(name: str, value: torch.Tensor) -> bool:
    return value.ndim > 1 and not name.startswith("words")


def _copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
