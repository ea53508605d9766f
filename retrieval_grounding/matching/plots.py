"""The plot of a learning curve."""

from __future__ import annotations

import io

from .history import TrainingHistory

__all__ = ["plot_history"]


def plot_history(history: TrainingHistory) -> bytes:
    """Return a PNG with losses on the left and validation measures on the right, by epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = history.epochs
    numbers = [epoch.number for epoch in epochs]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    losses.plot(numbers, [epoch.loss for epoch in epochs], label="training (listwise + BCE)")
    losses.plot(numbers, [epoch.validation_loss for epoch in epochs], label="validation (listwise)")
    losses.set(xlabel="epoch", ylabel="loss")
    accuracies.plot(numbers, [epoch.accuracy for epoch in epochs], label="Acc@0.5")
    accuracies.plot(numbers, [epoch.mean_iou for epoch in epochs], label="mean IoU")
    accuracies.plot(numbers, [epoch.reciprocal_rank for epoch in epochs], label="mean 1/rank")
    if history.best is not None:
        accuracies.axvline(history.best.number, linestyle=":", color="gray", label="best epoch")
    accuracies.set(xlabel="epoch", ylabel="validation")
    for axes in (losses, accuracies):
        axes.legend()
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(file, format="png", dpi=120)
    return file.getvalue()
