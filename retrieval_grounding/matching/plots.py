"""The plot of a learning curve, and what a training looks like in a notebook."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from ..core.html_table import table_html
from .comparison import Comparison
from .history import TrainingHistory

__all__ = ["fit_html", "plot_history"]


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


def fit_html(
    history: TrainingHistory, comparisons: Sequence[Comparison], remarks: Sequence[str]
) -> str:
    """Return a training as HTML: remarks, held-out figures, and the learning curve."""
    shown = [f"<p>{html.escape(text)}</p>" for text in remarks]
    if comparisons:
        header = ("held out", "expressions", "mean IoU", "Acc@0.5")
        first = comparisons[0]
        rows = [("this matcher", first.expressions, first.mean_iou, first.accuracy)]
        rows += [(c.name, c.expressions, c.other_mean_iou, c.other_accuracy) for c in comparisons]
        cells = [(name, f"{n:,}", f"{iou:.3f}", f"{acc:.3f}") for name, n, iou, acc in rows]
        shown.append(table_html(header, cells))
    if history.epochs:
        curve = base64.b64encode(plot_history(history)).decode("ascii")
        alt = "losses and validation accuracy by epoch"
        shown.append(
            f'<img src="data:image/png;base64,{curve}" alt="{alt}" style="max-width: 100%">'
        )
    return "\n".join(shown)
