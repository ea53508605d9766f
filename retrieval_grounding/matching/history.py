"""The learning curve of a training run, and its table as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, dataclass, field

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
    image_recall, box_recall, reciprocal_rank : float
        R@1, BoxRecall@1 and mean reciprocal rank of the phrases' images among the validation
        images; see :class:`.measures.Measures`.
    """

    number: int
    loss: float
    validation_loss: float
    accuracy: float
    mean_iou: float
    image_recall: float = 0.0
    box_recall: float = 0.0
    reciprocal_rank: float = 0.0


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
        """The epoch whose weights are kept: highest mean IoU plus mean reciprocal rank.

        None if the first epoch diverged.
        """
        return max(
            self.epochs,
            key=lambda epoch: (epoch.mean_iou + epoch.reciprocal_rank, -epoch.number),
            default=None,
        )

    def as_csv(self) -> str:
        """Return a table with one line per epoch."""
        file = io.StringIO()
        writer = csv.writer(file)
        writer.writerow(
            ["epoch", "loss", "validation_loss", "acc@0.5", "mean_iou", "r@1", "box_recall@1",
             "mean_reciprocal_rank"]
        )  # fmt: skip
        writer.writerows(astuple(epoch) for epoch in self.epochs)
        return file.getvalue()
