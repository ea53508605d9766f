"""A training's options, its learning curve, and what a killed one needs to go on."""

from __future__ import annotations

import csv
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from ..core.errors import ModelError
from ..storage.files import atomic_path
from .dataset import Examples
from .model import MatcherModel

__all__ = ["Epoch", "TrainingOptions", "TrainingRun", "TrainingState"]


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
    noise : float
        Shift embeddings at random by up to so much, for an encoder that has seen the photographs
        and embeds them better than others; 0.35 is a good amount.
    seed : int
        For every random choice.
    progress : bool or None
        Show a bar; None shows it on a terminal.
    """

    epochs: int = 20
    patience: int = 5
    batch: int = 256
    rate: float = 3e-3
    noise: float = 0.0
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


class TrainingState:
    """Everything that a killed training needs to go on."""

    def __init__(self, model: MatcherModel, training: Examples, options: TrainingOptions) -> None:
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
            f"{options.epochs} {options.batch} {options.rate} {options.noise} {options.seed} "
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


def _decays(name: str, value: torch.Tensor) -> bool:
    return value.ndim > 1 and not name.startswith("words")


def _copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
