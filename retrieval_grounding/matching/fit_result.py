"""What a training gives: the matcher, its learning curve, and how it compares with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.text import counted
from .comparison import Comparison
from .history import TrainingHistory
from .plots import fit_html
from .stored import StoredMatcher
from .trained import TrainedMatcher

__all__ = ["Fit"]


@dataclass(frozen=True, repr=False)
class Fit:
    """A fitted matcher and how it was trained.

    Parameters
    ----------
    matcher : TrainedMatcher
        The network. Calibrated if the held-out images allow it, unless something is combined with
        it.
    history : TrainingHistory
        The learning curve.
    images, expressions : int
        How many were used, held-out ones included.
    resident : bool
        Whether all regions stayed on the device.
    stored : StoredMatcher
        The network with what is combined with it: what is written into the index.
    share : float
        How far the network is from the one that it started from, to where training ended.
    comparisons : sequence of Comparison
        The stored matcher and others on held-out expressions: the one in use before, and every
        simpler one.
    problem : str
        Why the matcher should not be used: training diverged, or ended worse than what there was.
        Empty if it should.
    name : str
        What it is called in the index; empty if it is not there.
    installed : bool
        Whether the index uses the matcher now.
    notes : sequence of str
        What to know about the figures.
    """

    matcher: TrainedMatcher
    history: TrainingHistory
    images: int
    expressions: int
    resident: bool
    stored: StoredMatcher
    share: float = 1.0
    comparisons: Sequence[Comparison] = ()
    problem: str = ""
    name: str = ""
    installed: bool = False
    notes: Sequence[str] = field(default=(), repr=False)

    @property
    def reason(self) -> str:
        """Why the index does not use the matcher, in one sentence; empty if it does."""
        if not self.problem:
            return ""
        text = "is not installed" if not self.name else f"is kept as {self.name}, but not used"
        return f"the trained matcher {text}: {self.problem}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        best, calibration = self.history.best, self.stored.calibration
        return {
            "name": self.name or None,
            "kind": self.matcher.config.kind,
            "recipe": self.stored.recipe.describe(self.matcher.config.kind),
            "share": self.share,
            "images": self.images,
            "expressions": self.expressions,
            "epochs": len(self.history.epochs),
            "best_epoch": None if best is None else best.number,
            "validation_acc@0.5": None if best is None else best.accuracy,
            "validation_mean_iou": None if best is None else best.mean_iou,
            "validation_mean_reciprocal_rank": None if best is None else best.reciprocal_rank,
            "calibration": None if calibration is None else calibration.as_dict(),
            "resident": self.resident,
            "installed": self.installed,
            "reason": self.reason or None,
            "held_out": [comparison.as_dict() for comparison in self.comparisons],
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        best = self.history.best
        kept = "" if best is None else f", validation Acc@0.5 {best.accuracy:.3f}"
        about = f"{counted(self.expressions, 'expression')}, {counted(self.images, 'image')}"
        state = "installed" if self.installed else "not installed"
        return f"<Fit {self.matcher.config.kind}: {about}{kept}; {state}>"

    def _repr_html_(self) -> str:
        """Show the learning curve and the held-out figures in a notebook."""
        remarks = [text for text in (repr(self).strip("<>"), self.reason, *self.notes) if text]
        return fit_html(self.history, self.comparisons, remarks)
