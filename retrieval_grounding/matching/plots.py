"""The learning curve as a picture."""

from __future__ import annotations

from pathlib import Path

from ..storage.files import atomic_path
from .train_state import TrainingRun

__all__ = ["draw_curve"]


def draw_curve(run: TrainingRun, path: Path) -> None:
    """Write a PNG with losses on the left and validation accuracy on the right, by epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    numbers = [epoch.number for epoch in run.epochs]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    losses.plot(numbers, [epoch.loss for epoch in run.epochs], label="training, with yes or no")
    losses.plot(numbers, [epoch.validation_loss for epoch in run.epochs], label="validation")
    accuracies.plot(numbers, [epoch.accuracy for epoch in run.epochs], label="Acc@0.5")
    accuracies.plot(numbers, [epoch.mean_iou for epoch in run.epochs], label="mean IoU")
    accuracies.axvline(run.best.number, linestyle=":", color="gray", label="kept")
    for axes, name in ((losses, "loss"), (accuracies, "validation")):
        axes.set(xlabel="epoch", ylabel=name)
        axes.legend()
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, format="png", dpi=120)
