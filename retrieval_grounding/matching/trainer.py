"""The training loop of matcher networks, on cached features."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils import deterministic

from ..core.errors import GroundingError
from ..core.progress import progress_bar
from ..storage.files import is_regular
from .augment import single_things
from .batch import RegionTensors
from .boxes import box_iou
from .dataset import Examples, batches_by_image
from .graph_step import GraphSteps
from .history import Epoch, TrainingHistory
from .identity import training_identity
from .losses import listwise_loss, training_loss
from .measures import Measures, measure
from .model import MatcherModel
from .negatives import LabelMeanings, Mentions
from .options import TrainingOptions
from .phrase_batch import PhraseBatch, PhraseTable
from .region_source import RegionSource
from .resident_step import ResidentSteps
from .train_state import TrainingState
from .training_step import draw_step, images_of, score_step
from .vocabulary import number_words

__all__ = ["train_model"]


# Phrases of validation that are searched for, and images in which they are: enough to compare
# epochs, and fast on a CPU.
_GALLERY_PHRASES, _GALLERY_IMAGES = 200, 100
_PHRASES_AT_ONCE, _IMAGES_AT_ONCE = 32, 32

_log = logging.getLogger(__name__)


def train_model(
    model: MatcherModel,
    vocabulary: list[str],
    regions: RegionSource,
    training: Examples,
    validation: Examples,
    options: TrainingOptions,
    checkpoint: Path | None = None,
    origin: str = "",
) -> TrainingHistory:
    """Train a network in place and leave it with the weights of its best epoch.

    Parameters
    ----------
    model : MatcherModel
        On the device on which to train.
    vocabulary : list of str
        The words that it knows.
    regions : RegionSource
        Regions of all images.
    training, validation : Examples
        Of different images.
    options : TrainingOptions
        How to train.
    checkpoint : Path, optional
        Written after each epoch. If the file exists, training resumes from it, on a CPU with the
        same result as an uninterrupted run.
    origin : str
        Identifies the contents of the images and the encoder, so that a checkpoint of others is
        not resumed.

    Returns
    -------
    TrainingHistory
        The learning curve. If training diverged, the weights are those of the best epoch before,
        or those it started from.

    Raises
    ------
    GroundingError
        If there are no training examples, or no validation examples with a box.
    ModelError
        If the checkpoint is damaged or belongs to a different training run.
    """
    measurable = int(validation.located.sum())
    if not len(training) or not measurable:
        raise GroundingError(
            f"{len(training)} expressions for training and {measurable} with boxes for validation "
            "are too few; add expressions about more images"
        )
    device = next(model.parameters()).device
    trainer = _Trainer(vocabulary, regions, training, options, device)
    identity = training_identity(model, vocabulary, training, validation, options, origin)
    state = TrainingState(model, options, identity)
    if checkpoint is not None and is_regular(checkpoint):
        state.load(checkpoint)
    trainer.record_steps(state)
    with (
        _deterministic_algorithms(device),
        progress_bar("Training", options.epochs, "epochs", options.progress) as advance,
    ):
        advance(len(state.history.epochs))
        while not state.finished:
            number = len(state.history.epochs) + 1
            loss = trainer.train_epoch(training, state, number)
            validation_loss, measured = trainer.validate(state.averaged, validation)
            state.add(Epoch(number, loss, validation_loss, *astuple(measured)))
            if checkpoint is not None and state.history.diverged is None:
                state.save(checkpoint)
            advance(1)
    if state.history.diverged is not None:
        _log.info("training diverged in epoch %d", state.history.diverged)
    elif state.stopped_early and state.history.best is not None:
        _log.info(
            "training stopped early after epoch %d of %d: the best one was %d",
            len(state.history.epochs),
            options.epochs,
            state.history.best.number,
        )
    model.load_state_dict(state.best_weights)
    model.eval()
    return state.history


@contextmanager
def _deterministic_algorithms(device: torch.device) -> Iterator[None]:
    """Sum the gradients of rows that are used several times in a fixed order.

    On a GPU this would take a sort for each of them.
    """
    if device.type == "cuda":
        yield
        return
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    memory: Any = deterministic
    fill_before = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # filling costs time and is not needed here
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = fill_before


class _Trainer:
    def __init__(
        self,
        vocabulary: list[str],
        regions: RegionSource,
        training: Examples,
        options: TrainingOptions,
        device: torch.device,
    ) -> None:
        self.word_ids = number_words(vocabulary)
        self.table = PhraseTable(training.phrases, self.word_ids)
        self.mentions = Mentions(training, self.table.read)
        self.meanings = LabelMeanings(self.mentions.words)
        self.meant = torch.zeros(0, 0)
        self.regions = regions
        self.options = options
        self.device = device
        self.graph: GraphSteps | None = None

    def record_steps(self, state: TrainingState) -> None:
        """Let steps be recorded as a graph, on a GPU whose memory holds regions and phrases."""
        if self.device.type != "cuda" or not isinstance(self.regions, RegionTensors):
            return
        if self.table.size > torch.cuda.mem_get_info(self.device)[0] / 2:
            _log.info("training steps are not recorded: the phrases take %d bytes", self.table.size)
            return
        phrases = self.table.take(np.arange(len(self.table.phrases))).to(self.device)
        meanings = self._meanings(self.regions.label_names)
        steps = ResidentSteps(
            state.model, self.regions, phrases, meanings, self.mentions, self.options
        )
        self.graph = GraphSteps(state, steps)

    def train_epoch(self, examples: Examples, state: TrainingState, number: int) -> float:
        """Train for one epoch and return the mean loss.

        Random choices depend on the seed and the epoch's number alone, so that a resumed run makes
        the same ones.
        """
        random = np.random.default_rng([self.options.seed, number])
        examples = examples.drawn(random)
        batches = list(batches_by_image(examples, self.options.batch_size, random))
        first_step, steps = (number - 1) * len(batches), self.options.epochs * len(batches)
        state.model.train()
        graph = self.graph
        if graph is not None:
            graph.expect(examples, batches)
        losses = []
        with torch.random.fork_rng(self._cuda_devices()):
            for step, rows in enumerate(batches, first_step):
                state.set_lr(self.options.lr * _lr_factor(step, steps))
                torch.manual_seed(int(random.integers(1 << 62)))  # for dropout
                batch = examples.take(rows)
                if graph is None:
                    losses.append(self._train_plainly(state, batch, random))
                else:
                    losses.append(graph.run(batch, random))
        return float(torch.stack(losses).mean())

    def _train_plainly(
        self, state: TrainingState, batch: Examples, random: np.random.Generator
    ) -> torch.Tensor:
        return state.step(self._training_loss(state.model, batch, random))

    @torch.inference_mode()
    def validate(self, model: MatcherModel, examples: Examples) -> tuple[float, Measures]:
        """Return listwise loss and measures of the examples with a box."""
        model.eval()
        examples = examples.take(np.flatnonzero(examples.located))
        losses, best_ious = [], np.zeros(len(examples), np.float32)
        for rows in batches_by_image(examples, self.options.batch_size, None):
            batch = examples.take(rows)
            numbers, index = images_of(batch)
            images, image_index = self.regions.batch(self._tensor(numbers)), self._tensor(index)
            phrases = self._phrases(batch, batch.phrase)
            logits = model(phrases, images, self._numbers(batch), image_index).float()
            iou = box_iou(self._tensor(batch.boxes), images.boxes[image_index])
            losses.append(listwise_loss(logits, iou))
            best_iou = iou.gather(1, logits.argmax(1, keepdim=True))[:, 0]
            best_ious[rows] = best_iou.cpu().numpy()
        loss = float(torch.cat(losses).mean())
        return loss, measure(best_ious, *self._search(model, examples))

    def _search(
        self, model: MatcherModel, examples: Examples
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Search some phrases in all of some images; see :func:`.measures.measure`."""
        gallery = _spread(np.unique(examples.image), _GALLERY_IMAGES)
        searched = _spread(np.flatnonzero(np.isin(examples.image, gallery)), _GALLERY_PHRASES)
        best = np.zeros((len(searched), len(gallery)), np.float32)
        for start in range(0, len(gallery), _IMAGES_AT_ONCE):
            images = self.regions.batch(self._tensor(gallery[start : start + _IMAGES_AT_ONCE]))
            count = len(images.present)
            for first in range(0, len(searched), _PHRASES_AT_ONCE):
                rows = searched[first : first + _PHRASES_AT_ONCE]
                batch = examples.take(rows)
                phrases = self._phrases(batch, batch.phrase)
                phrase_index = self._numbers(batch).repeat_interleave(count)
                image_index = torch.arange(count, device=self.device).repeat(len(rows))
                logits = model(phrases, images, phrase_index, image_index).float()
                scores = logits.amax(1).view(len(rows), count).cpu().numpy()
                best[first : first + len(rows), start : start + count] = scores
        return searched, best, np.searchsorted(gallery, examples.image[searched])

    def _training_loss(
        self, model: MatcherModel, batch: Examples, random: np.random.Generator
    ) -> torch.Tensor:
        """Augment a batch, pair its phrases with images, and return its loss."""
        image, image_index = images_of(batch)
        images = self.regions.batch(self._tensor(image))
        single = int(single_things(images).sum())
        counts = (images.present.shape[1], int(images.present.sum()), single)
        step = draw_step(batch, image, image_index, self.mentions, counts, self.options, random)
        phrases = self._phrases(batch, step.phrases)
        pairs = score_step(
            model,
            step.to(self.device),
            images,
            phrases,
            self._meanings(images.label_names),
            self.mentions.baseline,
            self.options,
            padded=False,
        )
        return training_loss(*pairs)

    def _phrases(self, batch: Examples, rows: npt.NDArray[np.int64]) -> PhraseBatch:
        if batch.phrases is not self.table.phrases:
            self.table = PhraseTable(batch.phrases, self.word_ids)
        return self.table.take(rows).to(self.device)

    def _meanings(self, labels: Sequence[str]) -> torch.Tensor:
        """Return which nouns may mean which labels, on the device."""
        if self.meant.shape[1] < len(labels):
            self.meant = self._tensor(self.meanings.table(labels))
        return self.meant[:, : len(labels)]

    def _numbers(self, batch: Examples) -> torch.Tensor:
        return torch.arange(len(batch), device=self.device)

    def _cuda_devices(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []

    def _tensor(self, array: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def _spread(numbers: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return at most `count` of some sorted numbers, evenly spread."""
    places = np.linspace(0, len(numbers) - 1, min(count, len(numbers))).astype(np.int64)
    chosen: npt.NDArray[np.int64] = numbers[places]
    return chosen


def _lr_factor(step: int, steps: int) -> float:
    """Return the share of the peak learning rate: linear warm-up, then half a cosine to 1 %."""
    warm_up = max(1, steps // 20)
    return min((step + 1) / warm_up, 0.505 + 0.495 * math.cos(math.pi * step / steps))
