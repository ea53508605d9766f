"""The learning curve of a training run, and its table as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field

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
    diverged : int or None
        The epoch in which loss or weights ceased to be finite; it ends the training and is not
        among `epochs`.
    """

    epochs: list[Epoch] = field(default_factory=list)
    diverged: int | None = None

    @property
    def best(self) -> Epoch | None:
        """The epoch whose weights are kept: highest accuracy, then mean IoU, then the first.

        None if the first epoch diverged.
        """
        return max(
            self.epochs,
            key=lambda epoch: (epoch.accuracy, epoch.mean_iou, -epoch.number),
            default=None,
        )

    def as_csv(self) -> str:
        """Return a table with one line per epoch."""
        file = io.StringIO()
        writer = csv.writer(file)
        writer.writerow(["epoch", "loss", "validation_loss", "acc@0.5", "mean_iou"])
        for e in self.epochs:
            writer.writerow([e.number, e.loss, e.validation_loss, e.accuracy, e.mean_iou])
        return file.getvalue()
