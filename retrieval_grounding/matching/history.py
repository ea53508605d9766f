"""The learning curve of a training run, and its CSV file."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

from ..storage.files import atomic_path

__all__ = ["Epoch", "TrainingHistory"]


@dataclass(frozen=True)
class Epoch:
    """One epoch of training.

    Parameters
    ----------
    number : int
        From 1.
    loss : float
        Mean training loss.
    validation_loss : float
        Mean listwise loss on the validation images.
    accuracy : float
        Share of validation phrases whose best region has an IoU of at least 0.5, 0 to 1.
    mean_iou : float
        Mean IoU of the best regions, 0 to 1.
    """

    number: int
    loss: float
    validation_loss: float
    accuracy: float
    mean_iou: float


@dataclass
class TrainingHistory:
    """The learning curve of a training run.

    Parameters
    ----------
    epochs : list of Epoch
        One entry per epoch, in order.
    """

    epochs: list[Epoch] = field(default_factory=list)

    @property
    def best(self) -> Epoch:
        """The epoch whose weights are kept: highest accuracy, then mean IoU, then the first."""
        return max(self.epochs, key=lambda epoch: (epoch.accuracy, epoch.mean_iou, -epoch.number))

    def write_csv(self, path: Path) -> None:
        """Write one line per epoch, in one atomic step."""
        with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", "loss", "validation_loss", "acc@0.5", "mean_iou"])
            for e in self.epochs:
                writer.writerow([e.number, e.loss, e.validation_loss, e.accuracy, e.mean_iou])
